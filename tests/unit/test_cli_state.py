"""The verbs of `scirs2 state`: what they print, and how they end: 0, 1 where two files differ, 2 for bad input."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from scirs2_adapters import state
from scirs2_adapters.commands.app import app
from scirs2_adapters.core import HostOptimizer, get
from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.core.portable.file import held
from scirs2_adapters.core.portable.state import ParameterState, described
from scirs2_adapters.core.portable.state import save as save_state

SHAPES = {"dense.kernel": (3, 4), "embedding": (5, 4), "conv.kernel": (3, 3, 2, 4), "bias": (4,)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["state", *words], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def saved(path: str, rule: str = "adamw", steps: int = 2, **options: object) -> HostOptimizer:
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    optimizer = HostOptimizer(rule, params, kernel="traced", **options)
    for _ in range(steps):
        optimizer.step({name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()})
    state.save(optimizer, path)
    return optimizer


def arrays(path: str) -> dict[str, np.ndarray]:
    import safetensors.numpy

    return safetensors.numpy.load_file(path)


def test_show_prints_the_optimizer_and_every_slot(folder: Path) -> None:
    optimizer = saved("s")
    code, text = run("show", "s")
    assert code == 0, text
    norm = f"{np.linalg.norm(optimizer.state['bias']['exp_avg'].astype(float)):.6g}"
    for word in ("adamw", "beta2=0.999", "[3, 4]", "dense.kernel", "exp_avg_sq", "float32", norm):
        assert word in text


def test_diff_ends_with_1_where_something_differs(folder: Path) -> None:
    saved("a")
    saved("b")
    assert run("diff", "a", "b") == (0, "")
    saved("c", steps=3)
    code, text = run("diff", "a", "c")
    assert code == 1
    off = np.max(np.abs(arrays("a")["bias/exp_avg"].astype(float) - arrays("c")["bias/exp_avg"]))
    assert f"{off:.6g}" in text
    assert "bias steps" in text
    saved("d", rule="adam")
    assert "'adamw' and 'adam'" in run("diff", "a", "d")[1]
    saved("e", state_dtype="bfloat16")
    assert "bias/exp_avg" in run("diff", "a", "e")[1]


@pytest.mark.parametrize("options", [{}, {"state_dtype": "bfloat16"}], ids=str)
def test_convert_turns_kernels_and_nothing_else(folder: Path, options: dict[str, str]) -> None:
    optimizer = saved("s", **options)
    code, text = run("convert", "s", "t", "--to", "torch")
    assert code == 2
    assert "how the kernels of the file lie" in text
    assert not Path("t").exists()
    assert run("convert", "s", "t", "--to", "torch", "--layout", "flax")[0] == 0
    turned = {"dense.kernel": (1, 0), "conv.kernel": (3, 2, 0, 1)}
    params = {
        n: np.zeros(np.transpose(p, turned.get(n, range(p.ndim))).shape, np.float32)
        for n, p in optimizer.params.items()
    }
    other = HostOptimizer("adamw", params, **options)
    state.load("t", other)
    for name, slots in optimizer.state.items():
        for slot, x in slots.items():
            assert np.array_equal(other.state[name][slot], np.transpose(x, turned.get(name, range(x.ndim))))
    assert run("convert", "t", "back", "--to", "optax")[0] == 0
    assert run("diff", "s", "back")[0] == 0


def test_convert_turns_rows_into_columns(folder: Path) -> None:
    params = {"kernel": np.ones((3, 4), np.float32)}
    optimizer = HostOptimizer("adafactor", params)
    optimizer.step({"kernel": np.arange(12, dtype=np.float32).reshape(3, 4)})
    state.save(optimizer, "s")
    assert run("convert", "s", "t", "--to", "torch", "--layout", "keras")[0] == 0
    other = HostOptimizer("adafactor", {"kernel": params["kernel"].T.copy()})
    state.load("t", other)
    other.step({"kernel": np.ones((4, 3), np.float32)})
    optimizer.step({"kernel": np.ones((3, 4), np.float32)})
    assert np.allclose(other.params["kernel"], params["kernel"].T, rtol=1e-6)
    third = HostOptimizer("adafactor", {"kernel": np.ones((4, 3), np.float32)})
    state.load("s", third, layout="keras")
    with_file = arrays("t")
    assert all(np.array_equal(with_file[f"kernel/{slot}"], x) for slot, x in third.state["kernel"].items())


def test_convert_gives_names(folder: Path) -> None:
    saved("s")
    Path("map.json").write_text(json.dumps({"bias": "head.bias"}))
    assert run("convert", "s", "t", "--to", "numpy", "--names", "map.json")[0] == 0
    assert {name.rpartition("/")[0] for name in arrays("t")} == {
        "dense.kernel",
        "embedding",
        "conv.kernel",
        "head.bias",
    }
    Path("map.json").write_text(json.dumps({"bias": "embedding"}))
    code, text = run("convert", "s", "u", "--to", "numpy", "--names", "map.json")
    assert (code, "Received: 'embedding'. " in text) == (2, True), text
    assert "bias and embedding would both" in text or "embedding and bias would both" in text, text
    Path("map.json").write_text(json.dumps({"none": "x"}))
    assert run("convert", "s", "u", "--to", "numpy", "--names", "map.json")[0] == 2
    assert not Path("u").exists()


BAD = [
    ("show", "absent"), ("show", "text"), ("show", "."), ("diff", "s", "text"), ("diff", "s", "absent"),
    ("convert", "text", "t", "--to", "numpy"), ("convert", "s", "t", "--to", "caffe"), ("convert", "s", "t"),
    ("convert", "s", "t.pt", "--to", "keras"), ("convert", "s", "t", "--to", "torch", "--layout", "up"),
    ("convert", "s", "t", "--to", "numpy", "--names", "text"), ("convert", "s", "no/t", "--to", "numpy"),
    ("convert", "s", "no/t.pt", "--to", "torch"), ("convert", "s", ".", "--to", "numpy"),
    ("convert", "s", "t.keras", "--to", "keras"), ("convert", "s", "t.msgpack", "--to", "optax"),
    ("convert", "s", "t.weights.h5", "--to", "keras"), ("show", "s", "--rule", "lion"), ("show", "s", "--rule", "none"),
    ("show", "absent.keras"), ("show", "absent.pt"),
]  # fmt: skip


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_bad_input_ends_with_2_and_a_sentence(folder: Path, words: tuple[str, ...]) -> None:
    saved("s")
    Path("text").write_text("no state")
    files = {*folder.iterdir()}
    code, text = run(*words)
    assert code == 2
    assert text.strip()
    assert "Traceback" not in text
    assert {*folder.iterdir()} == files


def test_a_square_kernel_is_turned_only_where_someone_says_so(tmp_path: Path) -> None:
    """Numpy does not know how kernels lie, and a square one fits both ways."""
    params = {"kernel": np.ones((3, 3)), "embedding": np.ones((3, 3))}
    was = HostOptimizer("lion", params)
    was.step({name: np.arange(9.0).reshape(3, 3) for name in params})
    state.save(was, tmp_path / "s")
    moment = was.state["kernel"]["exp_avg"]
    for layout, expected in ((None, moment), ("keras", moment.T), ("torch", moment.T)):
        new = HostOptimizer(get("lion")(), {name: np.ones((3, 3)) for name in ("w", "embedding")})
        state.load(tmp_path / "s", new, layout=layout, rename={"kernel": "w"})
        assert np.array_equal(new.state["embedding"]["exp_avg"], moment)
        if layout:
            assert np.array_equal(new.state["w"]["exp_avg"], expected)
    with pytest.raises(ValueError, match="must be None or one of"):
        state.load(tmp_path / "s", was, layout="sideways")


@pytest.mark.parametrize(("to", "copies"), [("numpy", 1), ("torch", 2), ("keras", 2), ("optax", 2)])
def test_convert_holds_one_array_at_a_time(folder: Path, to: str, copies: int) -> None:
    """A kernel that is turned is there twice, as it lay and as it will lie."""
    largest, count = 512 * 1024 * 4, 28
    one = ParameterState(
        {slot: held(np.ones((512, 1024), np.float32), "float32") for slot in ("exp_avg", "exp_avg_sq")}
    )
    rule = get("adamw")()
    layout = INPUTS_FIRST if to == "torch" else OUTPUTS_FIRST
    save_state(described(rule, {f"{i}.weight": one for i in range(count // 2)}, layout=layout), Path("s"))
    assert run("convert", "s", "warm", "--to", to)[0] == 0  # what is imported is no part of it
    tracemalloc.start()
    try:
        assert run("convert", "s", "t", "--to", to)[0] == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert Path("t").stat().st_size > count * largest
    assert copies * largest < peak < (copies + 0.5) * largest + 2**20


def test_a_file_gets_whole_names_and_rows_however_long(folder: Path) -> None:
    name = "a_layer/" * 40 + "kernel"
    optimizer = HostOptimizer("adamw", {name: np.ones((2, 2), "float32")})
    optimizer.step({name: np.ones((2, 2), "float32")})
    state.save(optimizer, "long.safetensors")
    saved("other.safetensors")
    for words in (("show", "long.safetensors"), ("diff", "long.safetensors", "other.safetensors")):
        done = CliRunner().invoke(app, ["state", *words], env={"COLUMNS": "80"})
        assert any(line.startswith(f"{name} ") for line in done.output.splitlines()), done.output


@pytest.mark.parametrize("verb", ["show", "convert", "diff"])
def test_an_error_names_what_was_typed_and_no_function(folder: Path, verb: str) -> None:
    (folder / "text.safetensors").write_text("no state")
    saved("other.safetensors")
    more = {"show": (), "convert": ("out.safetensors", "--to", "torch"), "diff": ("other.safetensors",)}[verb]
    code, output = run(verb, "text.safetensors", *more)
    assert code == 2
    assert output.startswith("`FILE` must hold the state of an optimizer; ")
    assert output.rstrip().endswith("Received: 'text.safetensors'.")
