"""Parameters that are one in one framework and several in another, or of another shape: by a map of names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from scirs2_adapters import state
from scirs2_adapters.commands.app import app
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST

WIDTH, HEADS, EACH = 6, 2, 3
WHOLE = {"in.weight": (3 * WIDTH, WIDTH), "in.bias": (3 * WIDTH,), "out.weight": (WIDTH, WIDTH), "norm": (WIDTH,)}
NAMES = {
    "in.weight": " + ".join(f"{x}.kernel[{WIDTH}, {HEADS}, {EACH}]" for x in "qkv"),
    "in.bias": " + ".join(f"{x}.bias[{HEADS}, {EACH}]" for x in "qkv"),
    "out.weight": f"out.kernel[{HEADS}, {EACH}, {WIDTH}]",
    "norm": "norm.scale",
}
BACK = {
    " + ".join(f"{x}.kernel[{WIDTH}, {WIDTH}]" for x in "qkv"): "in.weight",
    " + ".join(f"{x}.bias[{WIDTH}]" for x in "qkv"): "in.bias",
    f"out.kernel[{WIDTH}, {WIDTH}]": "out.weight",
    "norm.scale": "norm",
}
Arrays = dict[str, np.ndarray]


def taken_apart(whole: Arrays) -> Arrays:
    """Weights or gradients of attention as flax has them, of what torch has."""
    parts = {"norm.scale": whole["norm"], "out.kernel": whole["out.weight"].T.reshape(HEADS, EACH, WIDTH)}
    for i, x in enumerate("qkv"):
        rows = slice(i * WIDTH, (i + 1) * WIDTH)
        parts[f"{x}.kernel"] = whole["in.weight"][rows].T.reshape(WIDTH, HEADS, EACH)
        parts[f"{x}.bias"] = whole["in.bias"][rows].reshape(HEADS, EACH)
    return {name: x.copy() for name, x in parts.items()}


def gradients(step: int) -> Arrays:
    rng = np.random.default_rng(step)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in WHOLE.items()}


def convert(folder: Path, source: str, target: str, to: str, names: dict[str, str], *words: str) -> tuple[int, str]:
    (folder / "names.json").write_text(json.dumps(names))
    ask = ["state", "convert", str(folder / source), str(folder / target), "--to", to]
    done = CliRunner().invoke(app, [*ask, "--names", str(folder / "names.json"), *words])
    return done.exit_code, done.output


def stepped(optimizer: HostOptimizer, steps: range) -> HostOptimizer:
    for step in steps:
        grads = gradients(step)
        optimizer.step(grads if "in.weight" in optimizer.params else taken_apart(grads))
    return optimizer


@pytest.mark.parametrize("options", [{}, {"state_dtype": "bfloat16"}], ids=str)
def test_a_run_goes_on_where_weights_are_in_parts_and_back(options: dict[str, str], tmp_path: Path) -> None:
    """Elementwise formulas walk to the bit as where all is one."""
    alone = HostOptimizer("adam", gradients(0), kernel="traced", layout=OUTPUTS_FIRST, **options)
    stepped(alone, range(1, 4))
    state.save(alone, tmp_path / "one")
    parts = HostOptimizer("adam", taken_apart(alone.params), kernel="traced", layout=INPUTS_FIRST, **options)
    assert convert(tmp_path, "one", "parts", "optax", NAMES, "--layout", "torch") == (0, "")
    report = state.load(tmp_path / "parts", parts)
    assert not report.converted
    stepped(alone, range(4, 7))
    stepped(parts, range(4, 7))
    for name, x in taken_apart(alone.params).items():
        assert np.array_equal(parts.params[name], x), name
    state.save(parts, tmp_path / "parts")
    assert convert(tmp_path, "parts", "again", "torch", BACK, "--layout", "flax") == (0, "")
    again = HostOptimizer("adam", alone.params, kernel="traced", layout=OUTPUTS_FIRST, **options)
    assert not state.load(tmp_path / "again", again).converted
    for name, slots in alone.state.items():
        assert all(np.array_equal(again.state[name][slot], x) for slot, x in slots.items()), name


def test_parts_may_have_other_numbers_of_outputs(tmp_path: Path) -> None:
    """As where queries have more heads than keys."""
    optimizer = HostOptimizer("lion", {"qkv.kernel": np.ones((6, 10), np.float32)}, kernel="traced")
    optimizer.step({"qkv.kernel": np.arange(60, dtype=np.float32).reshape(6, 10)})
    state.save(optimizer, tmp_path / "s")
    names = {"qkv.kernel": "q[6, 6] + k[6, 2] + v[6, 2]"}
    assert convert(tmp_path, "s", "t", "optax", names, "--layout", "flax") == (0, "")
    here = {"q": (6, 6), "k": (6, 2), "v": (6, 2)}
    parts = HostOptimizer("lion", {name: np.ones(shape, np.float32) for name, shape in here.items()}, kernel="traced")
    state.load(tmp_path / "t", parts)
    joined = np.concatenate([parts.state[name]["exp_avg"] for name in here], axis=1)
    assert np.array_equal(joined, optimizer.state["qkv.kernel"]["exp_avg"])


def test_codes_are_made_again(tmp_path: Path) -> None:
    params = {"qkv.kernel": np.ones((64, 192), np.float32)}
    optimizer = HostOptimizer("adam", params, kernel="traced", state_dtype="int8")
    grad = np.random.default_rng(0).normal(size=(64, 192)).astype(np.float32)
    optimizer.step({"qkv.kernel": grad})
    state.save(optimizer, tmp_path / "s")
    parted = {"qkv.kernel": "q.kernel + k.kernel + v.kernel"}
    assert convert(tmp_path, "s", "t", "optax", parted, "--layout", "flax") == (0, "")
    names = [f"{name}.kernel" for name in "qkv"]
    parts = HostOptimizer("adam", {name: np.ones((64, 64), np.float32) for name in names}, kernel="traced")
    state.load(tmp_path / "t", parts)
    joined = np.concatenate([parts.state[name]["exp_avg"] for name in names], axis=1)
    assert np.max(np.abs(joined - 0.1 * grad)) < 0.02 * np.max(np.abs(grad))


BAD = {
    "not like it": ("adafactor", {"in.weight": "q + k + v"}),
    "whole outputs": ("adam", {"in.weight": "q + k + v + w"}),
    "as many numbers": ("adam", {"norm": "norm[2, 4]"}),
    "one name on one side": ("adam", {"in.weight + norm": "a + b"}),
    "in the file": ("adam", {"nothing": "q + k"}),
    "name each parameter once": ("adam", {"norm": "a", "norm + in.bias": "b"}),
    "a name of its own": ("adam", {"in.weight": "norm + k + v"}),
    "as many inputs": ("adam", {"in.weight + out.weight + norm": "x"}),
}


@pytest.mark.parametrize("words", BAD)
def test_what_cannot_be_parted_is_refused(words: str, tmp_path: Path) -> None:
    rule, names = BAD[words]
    state.save(stepped(HostOptimizer(rule, gradients(0), kernel="traced"), range(1, 2)), tmp_path / "s")
    code, text = convert(tmp_path, "s", "t", "numpy", names, "--layout", "torch")
    assert (code, words in " ".join(text.split())) == (2, True), text
    assert not (tmp_path / "t").exists()


def test_parts_lie_along_outputs_which_must_be_known(tmp_path: Path) -> None:
    state.save(stepped(HostOptimizer("adam", gradients(0), kernel="traced"), range(1, 2)), tmp_path / "s")
    code, text = convert(tmp_path, "s", "t", "numpy", {"in.weight": "q + k + v"})
    assert (code, "how the kernels of the file lie" in " ".join(text.split())) == (2, True), text
