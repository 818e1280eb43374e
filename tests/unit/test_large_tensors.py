"""Tensors of more than 2**31 elements: work items cover them once, and kernels reach their far end.

Nothing of that size is allocated. A kernel is given an address so far before a small buffer that the last work item of
a large tensor falls into the buffer, if the whole way there is computed in 64 bits.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np
import pytest

from scirs2_adapters import get, names
from scirs2_adapters.core.cpu.kernel import CompiledPass, kernel
from scirs2_adapters.core.cpu.layout import Item
from scirs2_adapters.core.cpu.work_items import flat_items, row_items
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.slots import Extent, Leaf

BEYOND = 2**31 + 5
LARGE = [(BEYOND,), (70_000, 70_000), (2**20, 2**11 + 1), (3, 40_000, 40_000)]


@pytest.mark.parametrize("cut", [flat_items, row_items])
@pytest.mark.parametrize("shape", [*LARGE[1:], (2**33,)], ids=str)
def test_work_items_cover_a_large_tensor_once_and_in_order(shape: tuple[int, ...], cut: Any) -> None:
    shape = shape if cut is flat_items or len(shape) > 1 else (shape[0] // 2**12, 2**12)
    items = cut([(5, 3), shape, (7, 2)])
    pieces = items[items[:, 0] == 1].astype(object)  # numbers of any size
    sizes = pieces[:, Item.ROWS] * pieces[:, Item.COLUMNS]
    assert pieces[0, Item.OFFSET] == 0
    assert list(pieces[1:, Item.OFFSET]) == list(np.cumsum(sizes)[:-1])
    assert sum(sizes) == math.prod(shape) > 2**31
    assert min(sizes) > 0


def far_and_near(by_rows: bool) -> tuple[np.ndarray, np.ndarray]:
    """The last item of a large tensor, and one of the same extent at the start of its tensor."""
    far = (row_items if by_rows else flat_items)([(1_100_000, 4096) if by_rows else (BEYOND + 60,)])[-1].copy()
    near = far.copy()
    near[[Item.OFFSET, Item.ROW]] = 0
    return far, near


def called(this: CompiledPass, arrays: list[np.ndarray], item: np.ndarray, ends: bool) -> list[np.ndarray]:
    """What the pass leaves in its arrays and sums, whose first elements are at the item's place."""
    parts, addresses = this.parts, []
    for a, x in zip(parts.arrays, arrays, strict=True):
        skipped = {Extent.FULL: item[Item.OFFSET], Extent.ROW: item[Item.ROW]}.get(a.extent, 0) if ends else 0
        addresses.append(x.ctypes.data - int(skipped) * x.itemsize)
    table = np.array(addresses, dtype=np.int64)
    coefficients = np.linspace(0.1, 0.4, max(1, len(parts.coefficients)), dtype=np.float32)
    sums = np.zeros(len(parts.sums) + len(parts.columns) * int(item[Item.COLUMNS]) + 1)
    run = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(this.address)
    run(table.ctypes.data, item.ctypes.data, coefficients.ctypes.data, sums.ctypes.data)
    return [*arrays, sums]


def memory(this: CompiledPass, size: int, rows: int) -> list[np.ndarray]:
    """Arrays for one item: as many numbers as it reaches of each."""
    generator = np.random.default_rng(3)
    extent = {Extent.FULL: size, Extent.ROW: rows}
    return [generator.random(extent.get(a.extent, size), dtype=np.float32) for a in this.parts.arrays]


def program(name: str, shape: tuple[int, ...]) -> Program:
    leaf = Leaf(shape)
    return record(get(name)().route(leaf), leaf)


@pytest.mark.parametrize("shape", [(BEYOND,), (2**20, 2**12)], ids=["vector", "matrix"])
@pytest.mark.parametrize("name", names())
def test_kernels_reach_the_far_end_of_a_large_tensor(name: str, shape: tuple[int, ...]) -> None:
    made = program(name, shape)
    compiled = kernel(made, {"p": "float32", "g": "float32"} | {s.name: "float32" for s in made.slots})
    for this in (one for one in compiled.passes if not one.parts.idle):  # of an idle one there is no kernel
        far, near = far_and_near(this.parts.by_rows)
        size, rows = int(near[Item.ROWS] * near[Item.COLUMNS]), int(near[Item.ROWS])
        assert far[Item.OFFSET] + size > 2**31
        expected = called(this, memory(this, size, rows), near, ends=False)
        reached = called(this, memory(this, size, rows), far, ends=True)
        assert all(np.array_equal(x, y, equal_nan=True) for x, y in zip(expected, reached, strict=True))
