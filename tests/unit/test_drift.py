"""Recordings of runs, where two of them part, and what explains it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from scirs2_adapters import get, names, record, state
from scirs2_adapters.commands.app import app
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.drift import Drift, compare
from tests.boundaries.support import ROOT
from tests.conformance.options import brisk

Arrays = dict[str, np.ndarray]
Change = Callable[[int, HostOptimizer, Arrays], None]
SHAPES = {"w": (6, 4), "b": (4,)}


def ran(
    folder: Path, name: str = "adam", *, steps: int = 5, size: float = 1.0, dtype: str = "float32",
    change: Change | None = None, shapes: dict[str, tuple[int, ...]] = SHAPES, most: int = 65_536,
    options: dict[str, object] | None = None, **values: object,
) -> Path:  # fmt: skip
    """A recorded run of numpy's optimizer; `change` does something before a step, by its number from 1."""
    rng = np.random.default_rng(0)
    params = {n: rng.normal(size=shape).astype(dtype) for n, shape in shapes.items()}
    made = HostOptimizer(get(name)(**values), params, kernel="traced", **(options or {}))
    optimizer = record(made, folder, largest=most)
    for step in range(1, steps + 1):
        grads = {n: (size * rng.normal(size=shape)).astype(dtype) for n, shape in shapes.items()}
        if change is not None:
            change(step, optimizer, grads)
        optimizer.step(grads)
    return folder


def said(drift: Drift) -> str:
    return " | ".join(drift.explanations)


@pytest.mark.parametrize("name", names())
def test_two_runs_alike_do_not_differ_and_another_learning_rate_is_found(name: str, tmp_path: Path) -> None:
    values = brisk(get(name))
    a, b = (ran(tmp_path / x, name, **values) for x in "ab")
    assert compare(a, b).step is None
    rate = get(name)(**values).learning_rate

    def higher(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
        if step == 3:
            optimizer.set_learning_rate(1.5 * rate)

    drift = compare(a, ran(tmp_path / "c", name, change=higher, **values))
    assert (drift.step, drift.quantity) == (3, "learning_rate")
    assert "its learning rate does not matter here" in said(drift) or f"has learning_rate={1.5 * rate!r}" in said(drift)


@pytest.mark.parametrize(("name", "match"), [(n, m) for n in names() for m in getattr(get(n), "matches", ())])
def test_the_formula_of_another_framework_explains_its_step(name: str, match: str, tmp_path: Path) -> None:
    """With the same hyperparameters, and gradients that are as small as eps can be seen at."""
    rule = get(name)(**brisk(get(name)))
    values = {k: v for k, v in rule.get_config().items() if k != "match"}
    a = ran(tmp_path / "a", name, size=1e-3, **values)
    drift = compare(a, ran(tmp_path / "b", name, size=1e-3, **values, match=match))
    assert drift.step is None or drift.explanations, str(drift)


@pytest.mark.parametrize(
    ("name", "one", "other", "quantity", "words"),
    [
        ("adam", {}, {"match": "keras", "eps": 1e-8}, "param", "epsilon hat"),
        ("adam", {}, {"match": "keras"}, "param", "has eps=1e-07, where the other has 1e-08 and adds eps to the root"),
        ("adam", {"weight_decay": 0.1}, {"weight_decay": 0.1, "match": "keras", "eps": 1e-8}, "exp_avg", "has Keras'"),
        ("adam", {"weight_decay": 0.1}, {"weight_decay": 0.1, "match": "keras"}, "exp_avg", "has Keras' formula"),
        ("adam", {"amsgrad": True}, {"amsgrad": True, "match": "optax"}, "max_exp_avg_sq", "of corrected means"),
        ("rmsprop", {}, {"match": "keras", "rho": 0.99, "learning_rate": 1e-2, "eps": 1e-8}, "param", "under the root"),
        ("sgd", {"momentum": 0.9}, {"momentum": 0.9, "match": "keras", "learning_rate": 1e-3}, "momentum_buffer",
         "into the momentum buffer"),
        ("nadam", {}, {"match": "optax"}, "param", "momentum_decay=inf"),
    ],
)  # fmt: skip
def test_what_differs_is_named(
    name: str, one: dict[str, object], other: dict[str, object], quantity: str, words: str, tmp_path: Path
) -> None:
    a, b = (ran(tmp_path / x, name, size=1e-4, **values) for x, values in (("a", one), ("b", other)))
    drift = compare(a, b)
    assert (drift.step, drift.quantity) == (1, quantity)
    assert words in said(drift)
    assert words in str(drift)


@pytest.mark.parametrize("decay", [0.0, 1e-5, 0.02])
def test_a_value_that_the_other_run_has_not_recorded_is_not_named(decay: float, tmp_path: Path) -> None:
    values = {"learning_rate": 1e-2, "weight_decay": 1e-2}
    a, b = (ran(tmp_path / x, "adamw", **{**values, "weight_decay": y}) for x, y in (("a", 1e-2), ("b", decay)))
    assert compare(a, b).explanations == [f"has weight_decay={decay}, where the other has 0.01"]


def ahead(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
    if step == 3:
        optimizer.steps = {n: t + 1 for n, t in optimizer.steps.items()}


def lost(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
    if step == 3:
        optimizer.state = {}


def halved(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
    if step == 3:
        grads |= {n: g / 2 for n, g in grads.items()}


def decayed(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
    if step == 3:
        grads |= {n: g + np.float32(0.1) * optimizer.params[n] for n, g in grads.items()}


def rounded(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
    if step == 3:
        grads |= {n: g.astype(np.float16).astype(np.float32) for n, g in grads.items()}


def moved(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
    if step == 4:
        for p in optimizer.params.values():
            p += 0.5


@pytest.mark.parametrize(
    ("change", "step", "quantity", "words"),
    [
        (ahead, 3, "steps", "counts one step more"),
        (lost, 3, "exp_avg", "has lost its memory, and counts on"),
        (halved, 3, "grad", "it is 0.5 times A's"),
        (decayed, 3, "grad", "has 0.1 times the parameter added"),
        (rounded, 3, "grad", "rounded to float16"),
        (moved, 4, "param", ""),
    ],
)
def test_what_happened_to_a_run_is_named(change: Change, step: int, quantity: str, words: str, tmp_path: Path) -> None:
    drift = compare(ran(tmp_path / "a"), ran(tmp_path / "b", change=change))
    assert (drift.step, drift.quantity) == (step, quantity)
    assert words in said(drift)
    assert bool(drift.explanations) == bool(words)


def test_a_schedule_that_is_read_one_step_late_is_named(tmp_path: Path) -> None:
    def rate(step: int) -> float:
        return 1e-3 * (1 - step / 10)

    a, b = (
        ran(tmp_path / x, options={"learning_rate": f})
        for x, f in (("a", rate), ("b", lambda step: rate(max(step - 1, 0))))
    )
    drift = compare(a, b)
    assert (drift.step, drift.quantity) == (2, "learning_rate")
    assert "one step late" in said(drift)


def test_dtypes_are_named(tmp_path: Path) -> None:
    a = ran(tmp_path / "a")
    drift = compare(a, ran(tmp_path / "b", dtype="float64"))
    assert (drift.step, drift.quantity, drift.what) == (0, "dtype", "float32 and float64")
    drift = compare(a, ran(tmp_path / "c", options={"state_dtype": "bfloat16"}))
    assert (drift.step, drift.quantity, drift.what) == (1, "dtype", "float32 and bfloat16")


def test_large_arrays_are_sampled_and_their_norms_kept(tmp_path: Path) -> None:
    shapes = {"w": (40, 30), "b": (4,)}
    few = {"shapes": shapes, "most": 64, "size": 1e-4}
    a = ran(tmp_path / "a", **few)
    p = state.describe(a / "00000001.000.safetensors").parameters["w"]
    assert {x.shape for slot, x in p.slots.items() if not slot.endswith("_norm")} == {(8, 8)}
    assert sum(file.stat().st_size for file in a.iterdir()) < 6 * 8_000
    assert "epsilon hat" in said(compare(a, ran(tmp_path / "b", **few, match="keras", eps=1e-8)))

    def outside(step: int, optimizer: HostOptimizer, grads: Arrays) -> None:
        grads["w"][1, 1] += step == 2

    drift = compare(a, ran(tmp_path / "c", **few, change=outside))
    assert (drift.step, drift.quantity, drift.parameter) == (2, "grad", "w")


def test_only_so_many_steps_are_written(tmp_path: Path) -> None:
    optimizer = record(HostOptimizer("adam", {"w": np.ones(3)}), tmp_path / "a", steps=2)
    for _ in range(4):
        optimizer.step({"w": np.ones(3)})
    assert len(list((tmp_path / "a").iterdir())) == 3
    assert optimizer.steps == {"w": 4}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": None}, "SCIRS2_RECORD"),
        ({"path": "full"}, "without files"),
        ({"path": "a", "steps": 0}, "`record(steps=...)` must be a whole number >= 1"),
        ({"path": "a", "largest": True}, "largest"),
        ({"path": "file/a"}, "can be made"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    arguments: dict[str, object], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/x").touch()
    Path("file").touch()
    with pytest.raises((ValueError, TypeError)) as error:
        record(HostOptimizer("adam", {"w": np.ones(3)}), **arguments)
    assert words in str(error.value)
    with pytest.raises(TypeError, match="must be an optimizer"):
        record(object(), "b")


def others(folder: Path) -> dict[str, Path]:
    """Folders that are no recording to compare with."""
    a = ran(folder / "a")
    cut, lacking, weights = (Path(shutil.copytree(a, folder / x)) for x in ("cut", "lacking", "weights"))
    file = cut / "00000003.000.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    (lacking / "00000002.000.safetensors").unlink()
    optimizer = HostOptimizer("adam", {"w": np.ones(3)})
    state.save(optimizer, weights / "00000000.000.safetensors")
    (folder / "empty").mkdir()
    other = ran(folder / "other", shapes={"x": (6, 4), "b": (4,)})
    return {
        "cut short": cut, "lacks step 2": lacking, "holds no parameters": weights, "no steps": folder / "empty",
        "no such folder": folder / "nowhere", "only in B: x": other,
        "shapes": ran(folder / "shapes", shapes={**SHAPES, "w": (6, 5)}),
        "the shapes of A: w": ran(folder / "number", shapes={**SHAPES, "w": ()}),
        "no step|a step after the start": ran(folder / "start", steps=0),
    }  # fmt: skip


def test_what_is_no_recording_is_refused_with_a_sentence(tmp_path: Path) -> None:
    for words, folder in others(tmp_path).items():
        with pytest.raises(ValueError, match=words):
            compare(tmp_path / "a", folder)
    with pytest.raises(ValueError, match="must map names of B"):
        compare(tmp_path / "a", tmp_path / "other", names={"y": "w"})
    assert compare(tmp_path / "a", tmp_path / "other", names={"x": "w"}).step is None


def cli(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["drift", *words])
    return done.exit_code, done.output


def test_the_command_ends_with_what_it_has_found(tmp_path: Path) -> None:
    a = str(ran(tmp_path / "a", size=1e-4))
    assert cli(a, str(ran(tmp_path / "b", size=1e-4)))[0] == 0
    code, text = cli(a, str(ran(tmp_path / "c", size=1e-4, match="keras")))
    assert (code, "epsilon hat" in text) == (1, True)
    assert cli(a, str(tmp_path / "none"))[0] == 2
    names_file = tmp_path / "names.json"
    names_file.write_text(json.dumps({"x": "w"}))
    b = str(ran(tmp_path / "d", size=1e-4, shapes={"x": (6, 4), "b": (4,)}))
    assert cli(a, b, "--names", str(names_file))[0] == 0


def test_the_command_runs_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    program = tmp_path / "program.py"
    program.write_text("""
import sys
import numpy as np
import scirs2_adapters as s2
from scirs2_adapters.core import HostOptimizer
optimizer = HostOptimizer("adam", {"w": np.ones(3)}, kernel="traced", learning_rate=float(sys.argv[1]))
optimizer = s2.record(optimizer)
optimizer.step({"w": np.ones(3)})
""")
    one, other = (f"{sys.executable} {program} {rate}" for rate in ("1e-3", "2e-3"))
    assert cli("--run", one, one)[0] == 0
    code, text = cli("--run", one, other)
    assert (code, "learning_rate" in text) == (1, True)
    assert cli("--run", one, f"{sys.executable} -c 0")[0] == 2
    for command in ("", "'", "/no/such/program"):
        code, text = cli("--run", one, command)
        assert (code, "A and B must be commands" in text) == (2, True)
