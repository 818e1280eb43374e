"""One number for each slice along each axis: read, made anew, and put elsewhere where a kernel is turned."""

from __future__ import annotations

import numpy as np
import pytest

from scirs2_adapters.core import SM3, HostOptimizer
from scirs2_adapters.core.portable.layouts import SlicesTurn, transposed
from scirs2_adapters.core.slices import largest, plus_least
from scirs2_adapters.core.step.reference import NUMPY

SHAPES = pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 1, 3, 2, 2)], ids=str)


@SHAPES
def test_each_element_is_given_the_least_of_its_slices_and_gives_each_its_largest(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, numbers = rng.random(shape), rng.random(sum(shape))
    ends = np.cumsum((0, *shape))
    sums = plus_least(NUMPY, x, numbers)
    for index in np.ndindex(shape):
        assert sums[index] == x[index] + min(numbers[ends[axis] + i] for axis, i in enumerate(index))
    new = largest(NUMPY, numbers, x)
    for axis, length in enumerate(shape):
        assert [np.take(x, i, axis).max() for i in range(length)] == new[ends[axis] :][:length].tolist()


def test_nan_reaches_the_slices_it_is_in_and_no_other() -> None:
    x = np.ones((3, 4))
    x[1, 2] = np.nan
    assert np.flatnonzero(np.isnan(largest(NUMPY, np.zeros(7), x))).tolist() == [1, 3 + 2]


def test_an_array_without_elements_leaves_its_slices() -> None:
    numbers = np.arange(3.0)
    assert plus_least(NUMPY, np.ones((0, 3)), numbers).shape == (0, 3)
    assert largest(NUMPY, numbers, np.ones((0, 3))) is numbers


@SHAPES
def test_a_turned_kernel_has_the_memory_of_one_that_lay_so(shape: tuple[int, ...]) -> None:
    """SM3 knows no inputs from outputs, so the walk of a turned parameter is the turned walk."""
    rng, axes = np.random.default_rng(0), tuple(range(len(shape)))[::-1]
    start, grads = rng.normal(size=shape), rng.normal(size=(5, *shape))
    made = [HostOptimizer(SM3(), {"w": p}) for p in (start.copy(), start.transpose(axes).copy())]
    for g in grads:
        made[0].step({"w": g})
        made[1].step({"w": g.transpose(axes).copy()})
    there, here = (optimizer.state["w"]["accumulator"] for optimizer in made)
    np.testing.assert_array_equal(transposed(there, SlicesTurn(shape, axes)), here)
    np.testing.assert_array_equal(made[0].params["w"].transpose(axes), made[1].params["w"])
