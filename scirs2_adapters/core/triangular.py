"""The product of two matrices with zeros below their diagonals, at a quarter of the operations of a usual product."""

from __future__ import annotations

from collections.abc import Callable

from .ops import Array, Scalar

#: Rows and columns of a block, and how many blocks a side has at most: more save operations that others cost again.
BLOCK, MOST_BLOCKS = 256, 8


def add_product(
    out: Array, a: Array, b: Array, alpha: Scalar, addmm: Callable[[Array, Array, Array, Scalar, Scalar], Array]
) -> Array:
    """out + alpha * a @ b, in the memory of `out`, where all three are upper triangles. In a block of the result, rows
    of `a` meet columns of `b` only between the two places on the diagonal.
    """
    size = len(a)
    step = max(BLOCK, -(-size // MOST_BLOCKS))
    for first in range(0, size, step):
        for last in range(first, size, step):
            rows, columns, between = slice(first, first + step), slice(last, last + step), slice(first, last + step)
            out[rows, columns] = addmm(out[rows, columns], a[rows, between], b[between, columns], 1.0, alpha)
    return out
