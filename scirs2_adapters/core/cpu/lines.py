"""Rows, columns and matrices of all tensors of a batch in one vector each, so that what is computed of them between two
passes is one operation for all tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..slots import Extent


class Lines:
    """Where the numbers of each tensor, seen as a batch of matrices, stand in a vector of an extent: those of tensor t
    begin at `starts[extent][t]`, and there are `totals[extent]`.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        batches = np.array([math.prod(s[:-2]) for s in shapes], dtype=np.int64)
        rows, columns = (np.array([s[axis] if len(s) > 1 else 1 for s in shapes], np.int64) for axis in (-2, -1))
        self._long = {Extent.ROW: rows, Extent.COLUMN: columns}
        self.counts = {Extent.TENSOR: np.ones_like(batches), Extent.BATCH: batches}
        self.counts |= {extent: batches * long for extent, long in self._long.items()}
        self.starts = {extent: np.cumsum(counts) - counts for extent, counts in self.counts.items()}
        self._places: dict[tuple[Extent, Extent], np.ndarray] = {}
        self.totals = {extent: int(counts.sum()) for extent, counts in self.counts.items()}

    def _inside(self, over: Extent, extent: Extent) -> np.ndarray:
        """For each number of the second extent, the place of the number of the first extent that it belongs to."""
        if (places := self._places.get((over, extent))) is None:
            counts = self._parts(over, extent)
            places = self._places[over, extent] = np.repeat(np.arange(len(counts)), counts)
        return places

    def _parts(self, over: Extent, extent: Extent) -> np.ndarray:
        """How many numbers of the second extent belong to each number of the first."""
        return self.counts[extent] if over is Extent.TENSOR else self._long[extent].repeat(self.counts[over])

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays, those of all places among them."""
        return 8 * (2 * sum(self.totals.values()) + 10 * self.totals[Extent.TENSOR])

    def spread(self, x: np.ndarray, extent: Extent, over: Extent) -> np.ndarray:
        """The numbers repeated for a greater extent."""
        return x if extent is over or not np.ndim(x) else x[self._inside(extent, over)]

    def sums(self, x: np.ndarray, extent: Extent, over: Extent, mean: bool) -> np.ndarray:
        """The sums, or the means, of a vector of an extent over what belongs to each number of a smaller extent."""
        summed = np.bincount(self._inside(over, extent), x, self.totals[over])
        return summed / np.maximum(1, self._parts(over, extent)) if mean else summed
