"""Where the rows and columns of all tensors are, and which programs of a kernel sum which of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scirs2_adapters.core.matrix import matrices
from scirs2_adapters.core.slots import Extent

from .triton_kernel import ACROSS, SEGMENT
from .triton_layout import LINES, Layout
from .triton_stage import WAYS


class LineLists:
    """The lists for kernels that go along rows and columns. `geometry` is as `triton_kernel.GEOMETRY` has it; a row of
    `line_items` is a tensor, the way of its lines, which of them, and a segment; those of tensor k begin at
    `line_firsts[k]`. A row of `chunks` is a tensor, the way of its lines, and which of them; at first there is one for
    each tensor as a whole. `arrived` is 0 between two launches. `scratch` says how many numbers pass from one kernel to
    the next.
    """

    def __init__(self, layout: Layout, shapes: Sequence[tuple[int, ...]]) -> None:
        seen = [matrices(layout.program.lines, s) for s in shapes]
        height, width = (np.array([s[axis] for s in seen], dtype=np.int64) for axis in (-2, -1))
        many = np.array([math.prod(s[:-2]) for s in seen], dtype=np.int64)
        counts = {Extent.ROW: many * height, Extent.COLUMN: many * width, Extent.BATCH: many}
        segments = {Extent.ROW: _pieces(width, SEGMENT), Extent.COLUMN: _pieces(height, SEGMENT)}
        parts = {extent: counts[extent] * segments[extent] for extent in segments}
        starts = [*(_starts(counts[extent]) for extent in LINES), *map(_starts, parts.values())]
        chunks = {extent: _pieces(counts[extent], ACROSS) for extent in LINES}
        ends = np.cumsum(np.concatenate([[len(seen)], *chunks.values()]))
        self.geometry = np.column_stack([height, width, many, *starts, *ends[:-1].reshape(len(LINES), len(seen))])
        #: How many programs of each tensor have arrived, and of each chunk of its lines.
        self.arrived = np.zeros(ends[-1], dtype=np.int32)
        self.items = _items(chunks, {extent: n for extent, n in segments.items() if layout.parts[extent]})
        self.firsts = np.searchsorted(self.items[:, 0], np.arange(len(seen) + 1)).astype(np.int64)
        wanted = [extent for extent in LINES if layout.widths[extent]]
        whole = np.column_stack([np.arange(len(seen)), *np.zeros((2, len(seen)))])
        self.chunks = np.concatenate([whole, *(_chunks(chunks[e], WAYS[e]) for e in wanted)]).astype(np.int32)
        self.scratch = {f"{LINES[e]}_numbers": int(counts[e].sum()) * layout.widths[e] for e in wanted}
        self.scratch |= {f"{LINES[e]}_partials": int(n.sum()) * layout.parts[e] for e, n in parts.items()}

    @property
    def lists(self) -> dict[str, np.ndarray]:
        """By the names of a kernel's arguments."""
        named = {"geometry": self.geometry, "line_items": self.items, "line_firsts": self.firsts, "chunks": self.chunks}
        named["arrived"] = self.arrived
        return {name: np.ascontiguousarray(x) for name, x in named.items()}


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.cumsum(counts) - counts


def _pieces(counts: np.ndarray, size: int) -> np.ndarray:
    """How many pieces of this size so many numbers are; none of them is one piece, whose program arrives, too."""
    return np.maximum(-(-counts // size), 1)


def _chunks(chunks: np.ndarray, way: int) -> np.ndarray:
    """The programs for so many chunks of lines of each tensor: the tensor, the way, and which of them."""
    tensors = np.repeat(np.arange(len(chunks)), chunks)
    return np.column_stack([tensors, np.full(len(tensors), way), np.arange(len(tensors)) - _starts(chunks)[tensors]])


def _items(chunks: dict[Extent, np.ndarray], segments: dict[Extent, np.ndarray]) -> np.ndarray:
    """The programs of a pass along lines, tensor after tensor."""
    items = [np.zeros((0, 4), dtype=np.int64)]
    for extent, many in segments.items():
        of_extent = _chunks(chunks[extent], WAYS[extent] - 1)
        times = many[of_extent[:, 0]]
        repeated = np.repeat(of_extent, times, axis=0)
        items.append(np.column_stack([repeated, np.arange(len(repeated)) - np.repeat(_starts(times), times)]))
    joined = np.concatenate(items)
    return joined[np.argsort(joined[:, 0], kind="stable")].astype(np.int32)
