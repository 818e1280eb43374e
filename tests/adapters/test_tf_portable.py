"""Keras optimizers in `scirs2_adapters.state`: paths of variables, turned kernels, and errors that change nothing."""

from __future__ import annotations

import math
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from scirs2_adapters import state
from scirs2_adapters import tf as adapter
from scirs2_adapters.adapters.tf.ops import as_numpy
from scirs2_adapters.core import HostOptimizer

SHAPES = {"kernel": (3, 4), "bias": (4,)}


def variables(dtype: str = "float32") -> list[keras.Variable]:
    return [keras.Variable(np.ones(shape), dtype=dtype, name=name) for name, shape in SHAPES.items()]


def optimizer(steps: int = 2, dtype: str = "float32", **options: object) -> keras.optimizers.Optimizer:
    xs = variables(dtype)
    made = adapter.AdamW(learning_rate=1e-2, **options)
    made.build(xs)
    for i in range(steps):
        made.apply(
            [ops.convert_to_tensor(np.sin(np.arange(math.prod(x.shape)) + i).reshape(x.shape), dtype) for x in xs], xs
        )
    return made


def values(made: keras.optimizers.Optimizer) -> list[np.ndarray]:
    return [as_numpy(v) for v in made.variables]


@pytest.mark.parametrize(
    "options", [{}, {"state_dtype": "bfloat16"}, {"dtype": "bfloat16"}, {"skip_nonfinite": True}], ids=str
)
def test_what_is_saved_comes_back_to_the_bit(options: dict[str, object], tmp_path: Path) -> None:
    was, new = optimizer(**options), optimizer(0, **options)
    state.save(was, tmp_path / "s")
    assert not state.load(tmp_path / "s", new).converted
    assert all(np.array_equal(a, b) for a, b in zip(values(was), values(new), strict=True))


def test_kernels_are_turned_from_and_to_torch_s_layout(tmp_path: Path) -> None:
    was = optimizer()
    state.save(was, tmp_path / "s")
    host = HostOptimizer("adamw", {"weight": np.ones((4, 3), np.float32), "b": np.ones(4, np.float32)})
    report = state.load(tmp_path / "s", host, rename={"kernel": "weight", "bias": "b"})
    assert report.converted["weight/exp_avg"] == "axes (1, 0)"
    kernel = as_numpy(was.slots.entries[0].slots["exp_avg"])
    assert np.array_equal(host.state["weight"]["exp_avg"], kernel.T)
    assert host.steps == {"weight": 2, "b": 2}


def test_errors_change_nothing(tmp_path: Path) -> None:
    host = HostOptimizer("adamw", {"kernel": np.ones((3, 4)), "bias": np.ones(5)})
    host.step({"kernel": np.ones((3, 4)), "bias": np.ones(5)})
    state.save(host, tmp_path / "s")
    here = optimizer()
    before = values(here)
    with pytest.raises(ValueError, match=r"bias/exp_avg is of shape \(5,\) in the file and \(4,\) here"):
        state.load(tmp_path / "s", here)
    host.step({"kernel": np.ones((3, 4))})
    state.save(host, tmp_path / "s")
    with pytest.raises(ValueError, match="same number of steps"):
        state.load(tmp_path / "s", here, strict=False)
    assert all(np.array_equal(a, b) for a, b in zip(values(here), before, strict=True))


def test_what_has_no_memory_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be built.*optimizer\.build"):
        state.save(adapter.AdamW(), tmp_path / "s")
    with pytest.raises(TypeError, match="must be a Keras optimizer of scirs2"):
        state.save(keras.optimizers.Adam(), tmp_path / "s")
    assert list(tmp_path.iterdir()) == []
