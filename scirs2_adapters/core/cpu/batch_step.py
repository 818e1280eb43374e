"""One batch during one step of a rule with sums: the addresses and the coefficients of each pass, and what becomes of
its results.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence

import numpy as np

from ..formats import DITHER
from ..ops import Array, Scalars
from ..program.passes import Operand
from ..slots import Extent, Slot
from ..step.levels import APART, LevelValues, apart
from ..step.protocols import Model
from ..step.reference import NUMPY
from .batch import Batch, address
from .layout import Item
from .storage import STORAGES, load, store

#: Replaces an array that is no longer needed.
_NOTHING = np.zeros(0)
#: Slots that no pass stores.
SMALL = (Extent.TENSOR, Extent.ROW, Extent.COLUMN, Extent.SIDE, Extent.LOW)


class KernelStep:
    """The passes of one batch, whose arrays are known by their addresses."""

    def __init__(
        self,
        batch: Batch,
        addresses: np.ndarray,
        scalars: Sequence[Scalars],
        rows: np.ndarray | None,
        model: Model,
        threads: int,
    ) -> None:
        self.batch, self._addresses, self._threads = batch, addresses, threads
        self._tensors = range(len(batch.shapes))
        self._small = [s for s in batch.program.slots if s.extent in SMALL]
        sizes = np.array([max(1, math.prod(s)) for s in batch.shapes], dtype=np.float64)
        rows = np.zeros(len(batch.shapes), dtype=np.int64) if rows is None else rows
        self._dither = np.array([s.get(DITHER, 0.5) for s in scalars])[rows]
        by_tensor = {n: np.array([s[n] for s in scalars], dtype=np.float64)[rows] for n in batch.program.scalars}
        leaf: dict[str, Array] = {n: np.asarray(x, dtype=np.float64) for n, x in model.items()}
        leaf |= {s.name: self._apart(s) if s.extent in APART else self._joined(s) for s in self._small}
        lines = batch.lines if batch.by_rows else None
        self.values = LevelValues(batch.program, NUMPY, leaf, by_tensor, sizes, np.float64, lines)
        self._computed: dict[str, list[np.ndarray]] = {}  # memory of computed arrays, alive until the step ends

    def _apart(self, slot: Slot) -> list[np.ndarray]:
        """A slot of each tensor, in the dtype of what is computed of it."""
        dtype, shapes = self.batch.kernel.dtypes[slot.name], map(slot.shape, self.batch.shapes)
        wide = self.batch.kernel.compute if slot.side else np.float64
        loaded = (load(self._memory(slot.name, t, shape), dtype) for t, shape in enumerate(shapes))
        return [x.astype(wide, copy=False) for x in loaded]

    def _joined(self, slot: Slot) -> np.ndarray:
        """A slot of all tensors in one vector, widened to float64."""
        dtype = self.batch.kernel.dtypes[slot.name]
        carried = np.empty(self.batch.lines.totals[slot.extent], dtype=STORAGES[dtype].carrier)
        for there, here, count in self._places(slot, carried):
            ctypes.memmove(here, there, count)
        return load(carried, dtype).astype(np.float64, copy=False)

    def _places(self, slot: Slot, x: np.ndarray) -> list[tuple[int, int, int]]:
        """For each tensor where its numbers of a slot are, where they are in this vector, and how many bytes."""
        lines, size = self.batch.lines, x.itemsize
        there = self._addresses[:, self.batch.arrays.index(slot.name)].tolist()
        here = (address(x) + size * lines.starts[slot.extent]).tolist()
        return list(zip(there, here, (size * lines.counts[slot.extent]).tolist(), strict=True))

    def _memory(self, name: str, tensor: int, shape: tuple[int, ...]) -> np.ndarray:
        """An array of a tensor in the carrier dtype."""
        carrier = np.dtype(STORAGES[self.batch.kernel.dtypes[name]].carrier)
        place = self._addresses[tensor, self.batch.arrays.index(name)]
        raw = (ctypes.c_char * (math.prod(shape) * carrier.itemsize)).from_address(int(place))
        return np.ndarray(shape, dtype=carrier, buffer=memoryview(raw))

    def run_pass(self, level: int) -> None:
        """Runs one pass and takes its sums, its rows and its matrices."""
        if not self.batch.kernel.passes[level].parts.idle:
            self._run(level)
        nodes = self.batch.program.nodes
        matrices = [i for i, node in enumerate(nodes) if node.op == "matrix" and node.level == level + 1]
        for k, i in enumerate(matrices):
            needed = {arg for later in matrices[k + 1 :] for arg in nodes[later].args}
            arguments = {arg for arg in nodes[i].args if nodes[arg].op != "matrix"}
            self._run_matrix(i, {f"%{arg}" for arg in arguments - needed})

    def _run(self, level: int) -> None:
        parts = self.batch.kernel.passes[level].parts
        written = {*parts.stores, *parts.rows.values()}
        for k, a in enumerate(parts.arrays):
            if a.computed and a.name not in self._computed:
                self._computed[a.name] = self._new_arrays(a, written=k in written)
        table = self.batch.table(level, self._addresses, self._computed)
        coefficients, rows = self._coefficients(level), self.batch.every_tensor
        out, items = self.batch.run_pass(level, table, address(coefficients), rows, self._threads)
        self._take_sums(level, out, items)
        for i in parts.rows:
            self.values[i] = self._computed.pop(f"%{i}")[0].astype(np.float64)

    def _new_arrays(self, a: Operand, written: bool) -> list[np.ndarray]:
        """Memory for a computed array. It is empty if the pass writes it (`written`), and else has the computed values.
        The rows or columns of all tensors are one array.
        """
        compute = self.batch.kernel.compute
        if written and a.extent is Extent.FULL:
            return [np.empty(s, dtype=compute) for s in self.batch.shapes]
        if written:  # no pass visits the rows of a tensor without columns
            return [np.zeros(self.batch.lines.totals[a.extent], dtype=compute)]
        return [np.ascontiguousarray(self.values[a.node], dtype=compute)]

    def _coefficients(self, level: int) -> np.ndarray:
        this = self.batch.kernel.passes[level]
        coefficients = np.zeros((len(self._tensors), max(1, this.width)), dtype=self.batch.kernel.compute)
        for k, i in enumerate(this.parts.coefficients):
            coefficients[:, k] = self.values[i]
        if this.dithered:
            coefficients[:, -1] = self._dither
        return coefficients

    def _take_sums(self, level: int, out: np.ndarray, items: np.ndarray) -> None:
        parts = self.batch.kernel.passes[level].parts
        for k, i in enumerate(parts.sums):
            shares = out[items[:, Item.OUT] + len(parts.columns) * items[:, Item.COLUMNS] + k]
            self.values.take_sums(i, np.bincount(items[:, Item.TENSOR], shares, len(self._tensors)))
        if parts.columns:
            sums = self._column_sums(len(parts.columns), len(parts.sums), out, items)
            for i, x in zip(parts.columns, sums, strict=True):
                self.values[i] = x

    def _column_sums(self, many: int, others: int, out: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The means of each column of all tensors, `many` for each column. The items of a tensor follow each other.
        Each has its sums of columns and then `others`.
        """
        lines = self.batch.lines
        means = np.zeros((many, lines.totals[Extent.COLUMN]))
        numbers = np.bincount(items[:, Item.TENSOR], minlength=len(self._tensors)).tolist()
        ends = np.cumsum(numbers).tolist()
        for t, (number, end) in enumerate(zip(numbers, ends, strict=True)):
            if number == 0:
                continue
            begin, (*_, rows, columns) = int(items[end - number, Item.OUT]), self.batch.matrices[t]
            batches, start = int(lines.counts[Extent.BATCH][t]), int(lines.starts[Extent.COLUMN][t])
            shares = out[begin : begin + number * (many * columns + others)].reshape(batches, number // batches, -1)
            sums = np.sum(shares, axis=1)[:, : many * columns].reshape(batches, many, columns)
            means[:, start : start + batches * columns] = np.swapaxes(sums, 0, 1).reshape(many, -1) / rows
        return means

    def _run_matrix(self, index: int, last: set[str]) -> None:
        """Calls a function of matrices in the arithmetic's dtype. No later function takes the arguments in `last`: each
        of their arrays is dropped after its call.
        """
        node = self.batch.program.nodes[index]
        function, options = node.static
        results = []
        for t in self._tensors:
            args = [self._argument(a, t) for a in node.args]
            x = self.batch.call(function, args, dict(options)) if args[0].size else args[0]
            like = node.extent is Extent.FULL  # what is like the parameter may be an argument, which a pass may store
            results.append(np.array(x, order="C", copy=(like and np.may_share_memory(x, args[0])) or None))
            for name in last & self._computed.keys():
                self._computed[name][t] = _NOTHING
        for name in last & self._computed.keys():
            del self._computed[name]
        if node.extent is Extent.FULL:
            self._computed[f"%{index}"] = results
        else:
            self.values[index] = results

    def _argument(self, index: int, tensor: int) -> Array:
        """An argument of a function of matrices for one tensor: an array like it or of a side, or a number."""
        node = self.batch.program.nodes[index]
        extent, compute = node.extent, self.batch.kernel.compute
        if node.name == "g":
            x = self._memory("g", tensor, self.batch.shapes[tensor])
            return load(x, self.batch.kernel.dtypes["g"]).astype(compute, copy=False)
        if extent is Extent.FULL:
            return self._computed[f"%{index}"][tensor]
        value = apart(self.values[index], tensor)
        return value.astype(compute, copy=False) if extent in APART else float(value)

    def store(self) -> None:
        """Stores the new values of the slots that are smaller than a tensor."""
        for s in self._small:
            value, dtype = self.values[self.batch.program.outputs[s.name]], self.batch.kernel.dtypes[s.name]
            if s.extent in APART:
                for t, x in enumerate(value):
                    self._memory(s.name, t, x.shape)[...] = store(np.asarray(x), dtype)
                continue
            carried = store(np.broadcast_to(value, self.batch.lines.totals[s.extent]), dtype)
            carried = np.ascontiguousarray(carried)
            for there, here, count in self._places(s, carried):
                ctypes.memmove(there, here, count)
