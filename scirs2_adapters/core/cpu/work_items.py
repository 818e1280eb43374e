"""Cuts tensors into work items of about 32,768 numbers, small enough to share out and large enough to be worth a call.

The cut depends on shapes alone and never on the number of threads, so that sums over items are the same bits for any
number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..formats import BLOCK
from .layout import Item

CHUNK = 1 << 15


def flat_items(shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Items of consecutive elements: one row each."""
    sizes = np.array([math.prod(s) for s in shapes], dtype=np.int64)
    counts = -(-sizes // CHUNK)
    items = np.zeros((int(counts.sum()), len(Item)), dtype=np.int64)
    items[:, Item.TENSOR] = np.repeat(np.arange(len(sizes)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    items[:, Item.OFFSET] = (np.arange(len(items)) - first) * CHUNK
    items[:, Item.ROWS] = 1
    items[:, Item.COLUMNS] = np.minimum(CHUNK, sizes[items[:, Item.TENSOR]] - items[:, Item.OFFSET])
    return items


def row_items(shapes: Sequence[tuple[int, ...]], in_blocks: bool = False) -> np.ndarray:
    """Items of whole rows of one matrix, for tensors seen as batches of matrices over their last two axes, a vector as
    a row; with arrays in blocks, of so many rows that a block is in one item.
    """
    by_tensor = []
    for tensor, shape in enumerate(shapes):
        batches, (rows, columns) = math.prod(shape[:-2]), (1, 1, *shape)[-2:]
        if batches * rows * columns == 0:
            continue
        step = max(1, CHUNK // columns)
        if in_blocks:
            together = BLOCK // math.gcd(BLOCK, columns)
            step = -(-step // together) * together
        start = np.arange(0, rows, step, dtype=np.int64)
        items = np.zeros((batches, len(start), len(Item)), dtype=np.int64)
        items[..., Item.TENSOR] = tensor
        items[..., Item.BATCH] = np.arange(batches)[:, None]
        items[..., Item.ROW] = items[..., Item.BATCH] * rows + start
        items[..., Item.OFFSET] = items[..., Item.ROW] * columns
        items[..., Item.ROWS] = np.minimum(step, rows - start)
        items[..., Item.COLUMNS] = columns
        by_tensor.append(items.reshape(-1, len(Item)))
    return np.concatenate(by_tensor) if by_tensor else np.zeros((0, len(Item)), dtype=np.int64)
