"""Functions of whole tensors for rules that remember one number for each slice of a parameter of two axes or more: for
each row and each column of a matrix, and so on along every axis. The numbers are one list, those of the first axis
first.
"""

from __future__ import annotations

import functools
import itertools
import math

from .matrix import Matrix
from .ops import Array


def plus_least(xp: Array, x: Array, slices: Array, *, matrix: Matrix | None = None) -> Array:
    """x, and added to each element the least number of all slices that it is in, whatever the axes of a `matrix`."""
    del matrix
    shape = tuple(x.shape)
    ends = itertools.accumulate(shape, initial=0)
    lists = [slices[start:stop] for start, stop in itertools.pairwise(ends)]
    lines = [xp.reshape(numbers, _across(axis, shape)) for axis, numbers in enumerate(lists)]
    return x + functools.reduce(xp.minimum, lines)


def _across(axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one number for each slice along an axis, to be broadcast over the others."""
    return tuple(n if a == axis else 1 for a, n in enumerate(shape))


def largest(xp: Array, slices: Array, x: Array, *, matrix: Matrix | None = None) -> Array:
    """The largest element of each slice of x; the numbers as they were where x has no element."""
    del matrix
    axes = range(len(x.shape))
    if not math.prod(x.shape):
        return slices
    return xp.concatenate([xp.max(x, tuple(a for a in axes if a != axis)) for axis in axes])
