"""What happens between two passes: sums of items become sums of tensors, and all that is smaller than a tensor is
computed.

Values are lists. Where nothing is a row or a column, a list has one entry that holds a number for every tensor, so
that hundreds of norms are one numpy call; otherwise it has an entry for each tensor.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..program.interpret import evaluate
from ..slots import Extent
from ..step.reference import NUMPY
from .driver import OUT, TENSOR
from .storage import STORAGES, load, store

if TYPE_CHECKING:
    from .engine import Batch

Rows = np.ndarray | None
#: Slots that are stored here and not by a pass.
SMALL = (Extent.TENSOR, Extent.ROW, Extent.COLUMN)


def memory(address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The numbers at an address as an array of the carrier dtype."""
    carrier = np.dtype(STORAGES[dtype].carrier)
    raw = (ctypes.c_char * (math.prod(shape) * carrier.itemsize)).from_address(int(address))
    return np.ndarray(shape, dtype=carrier, buffer=memoryview(raw))


class Between:
    """The small values of one batch during one step."""

    def __init__(
        self,
        batch: Batch,
        table: np.ndarray,
        scalars: Sequence[Mapping[str, Any]],
        rows: Rows,
        model: Mapping[str, float],
    ) -> None:
        self.batch, self.addresses = batch, table
        self.nodes = batch.program.nodes
        self.needed = batch.program.order(list(batch.program.outputs.values()))
        tensors = range(len(batch.shapes))
        self.sizes = np.array([math.prod(s) for s in batch.shapes], dtype=np.float64)
        index = np.zeros(len(batch.shapes), dtype=np.int64) if rows is None else rows
        self.scalars: list[dict[str, Any]]
        if batch.by_rows:
            self.scalars = [dict(scalars[index[t]]) for t in tensors]
            self.leaves = [{**model, **self._small_slots(t)} for t in tensors]
        else:
            self.scalars = [
                {n: np.array([s[n] for s in scalars], dtype=np.float64)[index] for n in batch.program.scalars}
            ]
            each = [self._small_slots(t) for t in tensors]
            self.leaves = [{**model, **{n: np.array([small[n] for small in each]) for n in each[0]}}]
        self.values: dict[int, list[Any]] = {}
        self.kept: dict[str, list[np.ndarray]] = {}  # memory of computed arrays, alive until the step ends
        self._evaluate(0)

    def _small_slots(self, tensor: int) -> dict[str, np.ndarray]:
        """Row and column slots and those of one number, widened to float64."""
        found = {}
        for s in self.batch.program.slots:
            if s.extent in SMALL:
                found[s.name] = load(self._slot(s.name, tensor), self.batch.kernel.dtypes[s.name]).astype(np.float64)
        return found

    def _slot(self, name: str, tensor: int) -> np.ndarray:
        slot = next(s for s in self.batch.program.slots if s.name == name)
        address = self.addresses[tensor, self.batch.arrays.index(name)]
        return memory(address, slot.shape(self.batch.shapes[tensor]), self.batch.kernel.dtypes[name])

    def _evaluate(self, level: int) -> None:
        """Every node of this level that is smaller than a tensor and not a sum over one."""
        with np.errstate(all="ignore"):
            for i in self.needed:
                node = self.nodes[i]
                if (
                    node.level == level
                    and node.extent is not Extent.FULL
                    and i not in self.values
                    and not self._is_sum(i)
                ):
                    args = [self.values[a] for a in node.args]
                    self.values[i] = evaluate(node, NUMPY, self.leaves, self.scalars, args)

    def _is_sum(self, index: int) -> bool:
        node = self.nodes[index]
        return node.reduces and self.nodes[node.args[0]].extent is Extent.FULL

    def before(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """The addresses and the coefficients of a pass: a row for each tensor."""
        this, compute = self.batch.kernel.passes[level].parts, self.batch.kernel.compute
        computed = {}
        for a in this.arrays:
            if a.computed:
                if a.name not in self.kept:
                    self.kept[a.name] = self._array(
                        a.node, a.extent, made=a.node in this.rows or a.node in self._matrices(level)
                    )
                computed[a.name] = np.array([x.ctypes.data for x in self.kept[a.name]], dtype=np.int64)
        tensors = len(self.batch.shapes)
        coefficients = np.zeros((tensors, max(1, len(this.coefficients))), dtype=compute)
        with np.errstate(over="ignore"):
            for k, i in enumerate(this.coefficients):
                value = self.values[i]
                coefficients[:, k] = value[0] if len(value) == 1 else [float(np.squeeze(v)) for v in value]
        return self.batch.table(level, self.addresses, computed), coefficients

    def _matrices(self, level: int) -> list[int]:
        return [i for i, n in enumerate(self.nodes) if n.op == "matrix" and n.level == level + 1]

    def _array(self, node: int, extent: Extent, made: bool) -> list[np.ndarray]:
        """Memory for a value: to be filled by the pass, or holding what was computed before it."""
        compute = self.batch.kernel.compute
        if not made:
            return [np.ascontiguousarray(v, dtype=compute) for v in self.values[node]]
        shapes = [s if extent is Extent.FULL else s[:-1] for s in self.batch.shapes]
        return [np.zeros(s, dtype=compute) for s in shapes]  # no pass visits the rows of a tensor without columns

    def after(self, level: int, out: np.ndarray, items: np.ndarray) -> None:
        """Takes the sums of a pass."""
        this = self.batch.kernel.passes[level].parts
        width = len(this.columns)
        for k, i in enumerate(this.sums):
            shares = out[items[:, OUT] + width * items[:, 3] + k]
            whole: np.ndarray = np.bincount(items[:, TENSOR], weights=shares, minlength=len(self.sizes))
            if self.nodes[i].op == "mean":
                whole = whole / np.maximum(self.sizes, 1)
            self.values[i] = list(whole) if self.batch.by_rows else [whole]
        for q, i in enumerate(this.columns):
            self.values[i] = [self._column_means(t, q, out, items) for t in range(len(self.sizes))]
        for i in this.rows:
            made = self.kept.pop(f"%{i}")
            self.values[i] = [x.reshape(*x.shape, 1).astype(np.float64) for x in made]
        for i in self._matrices(level):
            self._matrix(i)

    def _column_means(self, tensor: int, q: int, out: np.ndarray, items: np.ndarray) -> np.ndarray:
        shape = self.batch.shapes[tensor]
        sums = np.zeros((math.prod(shape[:-2]), shape[-1]))
        for item in items[items[:, TENSOR] == tensor]:
            start = item[OUT] + q * shape[-1]
            sums[item[5]] += out[start : start + shape[-1]]
        return (sums / max(1, shape[-2])).reshape(*shape[:-2], 1, shape[-1])

    def _matrix(self, index: int) -> None:
        """Whole-matrix work, by BLAS, in the arithmetic's own dtype."""
        node, made = self.nodes[index], self.kept[f"%{index}"]
        function, options = node.static
        for t, x in enumerate(made):
            args = [self.values[a][0 if len(self.values[a]) == 1 else t] for a in node.args[1:]]
            numbers = [float(a if np.ndim(a) == 0 else a[t]) for a in args]
            if x.size:
                x[...] = function(NUMPY, x, *numbers, **dict(options))

    def totals(self, level: int) -> list[list[float]]:
        """For each sum over the model, the share of each tensor of this batch."""
        sums = self.batch.kernel.passes[level].parts.sums
        return [np.ravel(self.values[i]).tolist() for i in sums if self.nodes[i].op == "total"]

    def share(self, level: int, totals: Sequence[float]) -> None:
        """Takes the sums over all batches and computes what follows from them."""
        sums = [i for i in self.batch.kernel.passes[level].parts.sums if self.nodes[i].op == "total"]
        for i, total in zip(sums, totals, strict=True):
            self.values[i] = [np.float64(total)] * len(self.leaves)
        self._evaluate(level + 1)

    def finish(self, others: Sequence[Between]) -> dict[str, float]:
        """Stores what is smaller than a tensor; returns the model's numbers."""
        for each in (self, *others):
            each._store_small()
        outputs = self.batch.program.outputs
        return {
            s.name: float(np.ravel(self.values[outputs[s.name]][0])[0])
            for s in self.batch.program.slots
            if s.extent is Extent.MODEL
        }

    def _store_small(self) -> None:
        for s in self.batch.program.slots:
            if s.extent in SMALL:
                values = self.values[self.batch.program.outputs[s.name]]
                for t, value in enumerate(values if self.batch.by_rows else values[0]):
                    self._slot(s.name, t)[...] = store(np.asarray(value), self.batch.kernel.dtypes[s.name])
