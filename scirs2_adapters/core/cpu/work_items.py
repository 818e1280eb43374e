"""Cuts tensors into work items of about 32,768 numbers, small enough to share out and large enough to be worth a call.

The cut depends on shapes alone and never on the number of threads, so that sums over items are the same bits for any
number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .driver import BATCH, COLUMNS, ITEM_WORDS, OFFSET, ROW, ROWS, TENSOR

CHUNK = 1 << 15


def flat_items(shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Items of consecutive elements: one row each."""
    sizes = np.array([math.prod(s) for s in shapes], dtype=np.int64)
    counts = -(-sizes // CHUNK)
    items = np.zeros((int(counts.sum()), ITEM_WORDS), dtype=np.int64)
    items[:, TENSOR] = np.repeat(np.arange(len(sizes)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    items[:, OFFSET] = (np.arange(len(items)) - first) * CHUNK
    items[:, ROWS] = 1
    items[:, COLUMNS] = np.minimum(CHUNK, sizes[items[:, TENSOR]] - items[:, OFFSET])
    return items


def row_items(shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Items of whole rows of one matrix, for tensors seen as batches of matrices over their last two axes."""
    found = []
    for tensor, shape in enumerate(shapes):
        batches, rows, columns = math.prod(shape[:-2]), shape[-2], shape[-1]
        if batches * rows * columns == 0:
            continue
        step = max(1, CHUNK // columns)
        start = np.arange(0, rows, step, dtype=np.int64)
        items = np.zeros((batches, len(start), ITEM_WORDS), dtype=np.int64)
        items[..., TENSOR] = tensor
        items[..., BATCH] = np.arange(batches)[:, None]
        items[..., ROW] = items[..., BATCH] * rows + start
        items[..., OFFSET] = items[..., ROW] * columns
        items[..., ROWS] = np.minimum(step, rows - start)
        items[..., COLUMNS] = columns
        found.append(items.reshape(-1, ITEM_WORDS))
    return np.concatenate(found) if found else np.zeros((0, ITEM_WORDS), dtype=np.int64)
