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
from ..step.levels import LevelValues
from ..step.protocols import Model
from ..step.reference import NUMPY
from .batch import Batch, address
from .layout import Item
from .storage import STORAGES, load, store

#: In place of an array that nothing takes any more.
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
        self._dither = [scalars[row].get(DITHER, 0.5) for row in rows]
        self.values = LevelValues(
            batch.program, NUMPY, self._leaves(model), self._scalars(scalars, rows), sizes, np.float64, batch.by_rows
        )
        self._computed: dict[str, list[np.ndarray]] = {}  # memory of computed arrays, alive until the step ends

    def _scalars(self, scalars: Sequence[Scalars], rows: np.ndarray) -> list[Scalars]:
        names = self.batch.program.scalars
        if self.batch.by_rows:
            return [{n: np.float64(scalars[row][n]) for n in names} for row in rows]
        return [{n: np.array([s[n] for s in scalars], dtype=np.float64)[rows] for n in names}]

    def _leaves(self, model: Model) -> list[dict[str, np.ndarray]]:
        """The numbers of the model, and the row and column slots and those of one number, widened to float64."""
        numbers = {n: np.asarray(x, dtype=np.float64) for n, x in model.items()}
        leaves = [numbers | {s.name: self._wide(s, t) for s in self._small} for t in self._tensors]
        if self.batch.by_rows:
            return leaves
        return [numbers | {s.name: np.array([leaf[s.name] for leaf in leaves]) for s in self._small}]

    def _wide(self, slot: Slot, tensor: int) -> np.ndarray:
        x = load(self._memory(slot, tensor), self.batch.kernel.dtypes[slot.name])
        return x.astype(self.batch.kernel.compute if slot.side else np.float64, copy=False)

    def _memory(self, slot: Slot, tensor: int) -> np.ndarray:
        """A slot of a tensor as an array of the carrier dtype."""
        shape = slot.shape(self.batch.shapes[tensor])
        carrier = np.dtype(STORAGES[self.batch.kernel.dtypes[slot.name]].carrier)
        place = self._addresses[tensor, self.batch.arrays.index(slot.name)]
        raw = (ctypes.c_char * (math.prod(shape) * carrier.itemsize)).from_address(int(place))
        return np.ndarray(shape, dtype=carrier, buffer=memoryview(raw))

    def run_pass(self, level: int) -> None:
        """Runs one pass and takes its sums, its rows and its matrices."""
        parts = self.batch.kernel.passes[level].parts
        made = {*parts.stores, *parts.rows.values()}
        for k, a in enumerate(parts.arrays):
            if a.computed and a.name not in self._computed:
                self._computed[a.name] = self._new_arrays(a, made=k in made)
        table = self.batch.table(level, self._addresses, self._computed)
        coefficients, rows = self._coefficients(level), self.batch.every_tensor
        out, items = self.batch.run_pass(level, table, address(coefficients), rows, self._threads)
        self._take_sums(level, out, items)
        for i in parts.rows:
            arrays = self._computed.pop(f"%{i}")
            self.values[i] = [x.reshape(*x.shape, 1).astype(np.float64) for x in arrays]
        nodes = self.batch.program.nodes
        matrices = [i for i, node in enumerate(nodes) if node.op == "matrix" and node.level == level + 1]
        for k, i in enumerate(matrices):
            needed = {arg for later in matrices[k + 1 :] for arg in nodes[later].args}
            taken = {arg for arg in nodes[i].args if nodes[arg].op != "matrix"}
            self._run_matrix(i, {f"%{arg}" for arg in taken - needed})

    def _new_arrays(self, a: Operand, made: bool) -> list[np.ndarray]:
        """Memory for a computed array: to be filled by this pass, or holding what was computed before it."""
        compute = self.batch.kernel.compute
        if not made:
            return [np.ascontiguousarray(v, dtype=compute) for v in self.values[a.node]]
        shapes = [s if a.extent is Extent.FULL else s[:-1] for s in self.batch.shapes]
        return [np.zeros(s, dtype=compute) for s in shapes]  # no pass visits the rows of a tensor without columns

    def _coefficients(self, level: int) -> np.ndarray:
        this = self.batch.kernel.passes[level]
        nodes = this.parts.coefficients
        coefficients = np.zeros((len(self._tensors), max(1, this.width)), dtype=self.batch.kernel.compute)
        for k, i in enumerate(nodes):
            value = self.values[i]
            coefficients[:, k] = value[0] if len(value) == 1 else [float(np.squeeze(v)) for v in value]
        if this.dithered:
            coefficients[:, -1] = self._dither
        return coefficients

    def _take_sums(self, level: int, out: np.ndarray, items: np.ndarray) -> None:
        parts = self.batch.kernel.passes[level].parts
        for k, i in enumerate(parts.sums):
            shares = out[items[:, Item.OUT] + len(parts.columns) * items[:, Item.COLUMNS] + k]
            self.values.take_sums(i, np.bincount(items[:, Item.TENSOR], shares, len(self._tensors)))
        for q, i in enumerate(parts.columns):
            self.values[i] = [self._column_means(t, q, out, items) for t in self._tensors]

    def _column_means(self, tensor: int, q: int, out: np.ndarray, items: np.ndarray) -> np.ndarray:
        shape = self.batch.shapes[tensor]
        sums = np.zeros((math.prod(shape[:-2]), shape[-1]))
        for item in items[items[:, Item.TENSOR] == tensor]:
            start = item[Item.OUT] + q * shape[-1]
            sums[item[Item.BATCH]] += out[start : start + shape[-1]]
        return (sums / max(1, shape[-2])).reshape(*shape[:-2], 1, shape[-1])

    def _run_matrix(self, index: int, last: set[str]) -> None:
        """Calls a function of matrices in the arithmetic's dtype; what it is the `last` to take is dropped,
        array by array.
        """
        node = self.batch.program.nodes[index]
        function, options = node.static
        made = []
        for t in self._tensors:
            args = [self._argument(a, t) for a in node.args]
            x = self.batch.call(function, args, dict(options)) if args[0].size else args[0]
            made.append(np.ascontiguousarray(x))
            for name in last & self._computed.keys():
                self._computed[name][t] = _NOTHING
        for name in last & self._computed.keys():
            del self._computed[name]
        if node.extent is Extent.FULL:
            self._computed[f"%{index}"] = made
        else:
            self.values[index] = made

    def _argument(self, index: int, tensor: int) -> Array:
        """What a function of matrices takes of a tensor: an array like it or of a side, or a number."""
        extent = self.batch.program.nodes[index].extent
        if extent is Extent.FULL:
            return self._computed[f"%{index}"][tensor]
        values = self.values[index]
        value = values[0 if len(values) == 1 else tensor]
        if extent in (Extent.SIDE, Extent.LOW):
            return value.astype(self.batch.kernel.compute, copy=False)
        return float(value if np.ndim(value) == 0 else value[tensor])

    def store(self) -> None:
        """Stores the new values of the slots that are smaller than a tensor."""
        for s in self._small:
            values = self.values[self.batch.program.outputs[s.name]]
            for t, value in enumerate(values if self.batch.by_rows else values[0]):
                self._memory(s, t)[...] = store(np.asarray(value), self.batch.kernel.dtypes[s.name])
