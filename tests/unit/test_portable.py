"""A state in a file of its own: what is saved comes back to the bit, and a file that is not whole is refused before
anything has changed.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from safetensors import safe_open

from scirs2_adapters import get, names, state
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.numpy_state import owned
from scirs2_adapters.core.portable import file as files
from tests.conformance.options import brisk

#: A matrix that is large enough for 8 bits, one that is not, a vector and a number.
SHAPES = {"large": (128, 64), "small": (3, 4), "b": (5,), "s": ()}
FORMATS = [
    {}, {"state_dtype": "bfloat16"}, {"state_dtype": "int8"}, {"rounding": "compensated"}, {"rounding": "stochastic"},
]  # fmt: skip


def optimizer(name: str = "adamw", dtype: object = np.float32, steps: int = 3, **options: object) -> HostOptimizer:
    """One that has stepped."""
    rng = np.random.default_rng(0)
    params = {k: rng.normal(size=shape).astype(dtype) for k, shape in SHAPES.items()}
    made = HostOptimizer(get(name)(**brisk(get(name))), params, kernel="traced", **options)
    for _ in range(steps):
        made.step({k: rng.normal(size=shape).astype(dtype) for k, shape in SHAPES.items()})
    return made


def same(one: HostOptimizer, other: HostOptimizer) -> None:
    """Both remember the same, to the bit."""
    a, b = one.state_dict(), other.state_dict()
    assert {k: v for k, v in a.items() if k != "state"} == {k: v for k, v in b.items() if k != "state"}
    assert a["state"].keys() == b["state"].keys()
    for key, slots in a["state"].items():
        assert slots.keys() == b["state"][key].keys()
        for slot, x in slots.items():
            assert x.dtype == b["state"][key][slot].dtype
            assert np.array_equal(x, b["state"][key][slot]), (key, slot)


@pytest.mark.parametrize("name", names())
def test_what_is_saved_comes_back_to_the_bit(name: str, tmp_path: Path) -> None:
    was, new = optimizer(name), optimizer(name, steps=0)
    state.save(was, tmp_path / "s")
    report = state.load(tmp_path / "s", new)
    assert [report.converted, report.missing, report.left_over, report.hyperparameters] == [{}, [], [], {}]
    same(was, new)


@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_formats_come_back_to_the_bit(options: dict[str, object], tmp_path: Path) -> None:
    dtype = ml_dtypes.bfloat16 if "rounding" in options else np.float32
    was, new = optimizer(dtype=dtype, **options), optimizer(dtype=dtype, steps=0, **options)
    state.save(was, tmp_path / "s")
    assert not state.load(tmp_path / "s", new).converted
    same(was, new)


def test_the_library_of_the_format_reads_the_same(tmp_path: Path) -> None:
    was = optimizer()
    state.save(was, tmp_path / "s")
    read = safetensors.numpy.load_file(tmp_path / "s")
    assert read.keys() == {f"{key}/{slot}" for key, slots in was.state.items() for slot in slots}
    assert all(np.array_equal(read[f"{k}/{n}"], x) for k, slots in was.state.items() for n, x in slots.items())
    with safe_open(tmp_path / "s", "numpy") as opened:
        facts = json.loads(opened.metadata()["scirs2"])
    assert facts["rule"] == "adamw"
    assert facts["config"]["beta2"] == was.rule.beta2
    assert facts["parameters"]["small"]["steps"] == 3


def test_numbers_go_into_the_dtypes_that_are_kept_here(tmp_path: Path) -> None:
    state.save(optimizer(), tmp_path / "s")
    new = optimizer(steps=0, state_dtype="bfloat16")
    report = state.load(tmp_path / "s", new)
    assert report.converted["small/exp_avg"] == "float32 to bfloat16"
    held = new.state["small"]["exp_avg"].view(ml_dtypes.bfloat16).astype(np.float32)
    assert np.allclose(held, optimizer().state["small"]["exp_avg"], rtol=2**-8)
    state.save(optimizer(state_dtype="int8"), tmp_path / "coded")
    wide = optimizer(steps=0)
    state.load(tmp_path / "coded", wide)
    assert np.allclose(wide.state["large"]["exp_avg"], optimizer().state["large"]["exp_avg"], atol=0.05)


def test_hyperparameters_stay_and_are_told(tmp_path: Path) -> None:
    state.save(optimizer(), tmp_path / "s")
    new = optimizer(steps=0)
    new.replace(beta2=0.5)
    assert state.load(tmp_path / "s", new).hyperparameters == {"beta2": (0.999, 0.5)}
    assert new.rule.beta2 == 0.5


def test_a_part_is_taken_where_it_is_asked_for(tmp_path: Path) -> None:
    was = optimizer()
    state.save(was, tmp_path / "s")
    params = {"small": np.ones((3, 4), np.float32), "b": np.ones(6, np.float32), "other": np.ones(2, np.float32)}
    new = HostOptimizer("adamw", params)
    with pytest.raises(ValueError, match="here only: other") as raised:
        state.load(tmp_path / "s", new)
    assert "in the file only: large, s" in str(raised.value)
    assert not new.state
    report = state.load(tmp_path / "s", new, strict=False)
    assert (report.missing, report.left_over) == (["other"], ["large", "s"])
    assert report.misfits.keys() == {"b/exp_avg", "b/exp_avg_sq"}
    assert np.array_equal(new.state["small"]["exp_avg"], was.state["small"]["exp_avg"])
    assert (new.steps["small"], new.steps["other"]) == (3, 0)
    new.step({k: np.ones_like(p) for k, p in params.items()})


def test_parameters_go_by_other_names_where_they_are_said(tmp_path: Path) -> None:
    was = optimizer()
    state.save(was, tmp_path / "s")
    new = HostOptimizer("adamw", {f"model.{k}": np.zeros(shape, np.float32) for k, shape in SHAPES.items()})
    state.load(tmp_path / "s", new, rename={k: f"model.{k}" for k in SHAPES})
    assert np.array_equal(new.state["model.b"]["exp_avg"], was.state["b"]["exp_avg"])
    for wrong in ({"none": "model.b"}, {"b": "none"}):
        with pytest.raises(ValueError, match="must map names"):
            state.load(tmp_path / "s", new, rename=wrong)
    same = dict.fromkeys(SHAPES, "model.b")
    with pytest.raises(ValueError, match=r"must leave each parameter a name of its own\. Received: 'model\.b'"):
        state.load(tmp_path / "s", new, rename=same)


def _altered(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def _newer(data: bytes) -> bytes:
    return data.replace(b'format_version\\": 1', b'format_version\\": 2')


class _Runs:
    """A pickle that would write a file."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("ran"),)


def _header_of(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


BAD = {
    "empty": lambda data: b"",
    "text": lambda data: b"weights of a model, they say",
    "pickle": lambda data: pickle.dumps(_Runs()),
    "archive": lambda data: b"PK\x03\x04" + data,
    "cut short": lambda data: data[:-1],
    "cut in the header": lambda data: data[:40],
    "longer": lambda data: data + b"\0",
    "a number altered": lambda data: _altered(data, len(data) - 5),
    "the header altered": lambda data: _altered(data, data.index(b"beta2") + 9),
    "a shape altered": lambda data: data.replace(b'"shape":[3,4]', b'"shape":[4,3]'),
    "a name altered": lambda data: data.replace(b'"small/exp_avg"', b'"smalL/exp_avg"'),
    "the checksum altered": lambda data: _altered(data, data.index(b'"checksum":"') + 13),
    "a length beyond the file": lambda data: (1 << 40).to_bytes(8, "little") + data[8:],
    "no header": lambda data: data[:8] + b"[" * (_header_of(data) - 8) + data[_header_of(data) :],
    "newer": _newer,
    "a model": lambda data: safetensors.numpy.save({"w": np.ones(3)}),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_with_nothing_changed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state.save(optimizer(), tmp_path / "s")
    good = (tmp_path / "s").read_bytes()
    bad = BAD[kind](good)
    assert bad != good
    (tmp_path / "s").write_bytes(bad)
    here = optimizer(steps=1)
    before = owned(here.state)
    for use in (lambda: state.load(tmp_path / "s", here), lambda: state.describe(tmp_path / "s")):
        with pytest.raises(ValueError, match="must hold the state of an optimizer"):
            use()
    assert all(np.array_equal(x, before[k][n]) for k, slots in here.state.items() for n, x in slots.items())
    assert set(here.steps.values()) == {1}
    assert not Path("ran").exists()


def test_a_newer_version_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scirs2_adapters.core.portable.state.FORMAT_VERSION", 2)
    state.save(optimizer(), tmp_path / "s")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"newer version.*Update scirs2"):
        state.load(tmp_path / "s", optimizer())


def test_a_bit_counts_wherever_it_is(tmp_path: Path) -> None:
    small = HostOptimizer("sgd", {"w": np.ones(1, np.float32)})
    state.save(small, tmp_path / "s")
    good = (tmp_path / "s").read_bytes()
    for place in range(0, len(good), 7):
        (tmp_path / "s").write_bytes(_altered(good, place))
        with pytest.raises(ValueError, match="must hold the state of an optimizer"):
            state.describe(tmp_path / "s")


def test_a_state_of_another_optimizer_or_formula_is_refused(tmp_path: Path) -> None:
    state.save(optimizer("adam"), tmp_path / "s")
    with pytest.raises(ValueError, match=r"must hold the state of lion\. Received: 'adam'"):
        state.load(tmp_path / "s", optimizer("lion"))
    params = {"w": np.ones(3)}
    was = HostOptimizer(get("rmsprop")(momentum=0.9, match="optax"), params)
    was.step({"w": np.ones(3)})
    state.save(was, tmp_path / "s")
    with pytest.raises(ValueError, match="differs in meaning"):
        state.load(tmp_path / "s", HostOptimizer(get("rmsprop")(momentum=0.9), params))


def test_codes_need_their_scales(tmp_path: Path) -> None:
    was = optimizer(state_dtype="int8")
    del was.state["large"]["exp_avg_scale"]
    state.save(was, tmp_path / "s")
    with pytest.raises(ValueError, match="codes of large have no scales"):
        state.load(tmp_path / "s", optimizer(steps=0))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state.save(optimizer(), tmp_path / "s")
    good = (tmp_path / "s").read_bytes()

    def fails(name: str, x: files.Array) -> memoryview:
        if name == "s/exp_avg":
            raise OSError("the disk is full")
        return real(name, x)

    real = files._bytes
    monkeypatch.setattr(files, "_bytes", fails)
    with pytest.raises(OSError, match="full"):
        state.save(optimizer("adam"), tmp_path / "s")
    assert (tmp_path / "s").read_bytes() == good
    assert [x.name for x in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("wrong", [3, "adamw", None, {}, []])
def test_what_is_no_optimizer_is_refused(wrong: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be an optimizer"):
        state.save(wrong, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_an_array_is_in_memory_one_at_a_time(tmp_path: Path) -> None:
    """Writing holds one array, reading none but those that are asked for."""
    import tracemalloc

    count, size = 16, 1 << 18
    held = {f"w{i}": files.Array("float32", (size,), lambda i=i: np.full(size, i, np.float32)) for i in range(count)}
    tracemalloc.start()
    files.write(tmp_path / "s", "{}", held)
    with files.opened("x", tmp_path / "s") as opened:
        assert all(opened.arrays[f"w{i}"].read()[0] == i for i in range(count))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * (4 * size)


def test_a_description_prints_a_line_for_each_fact_and_parameter(tmp_path: Path) -> None:
    state.save(optimizer(), tmp_path / "s")
    lines = str(state.describe(tmp_path / "s")).splitlines()
    assert lines[0].split() == ["optimizer:", "adamw"]
    assert "  small: exp_avg float32 [3, 4], exp_avg_sq float32 [3, 4]" in lines
    assert len(lines) == 7 + len(SHAPES)
