"""How `HostOptimizer` steps its arrays: by a compiled kernel, or by numpy operations.

The arrays of a parameter are a list: the parameter, its gradient, then its slots in the order of its program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .cpu import storage
from .cpu.engine import plan, run
from .ops import Scalars
from .slots import Extent
from .step import reference
from .step.plan import grouped
from .step.protocols import KernelEntry, Model

ParamArrays = list[np.ndarray]
AllArrays = Sequence[ParamArrays]
_GRADIENT = 1


class KernelExecutor:
    """Steps by the compiled kernel. Every address is asked for at each step: an array can be given other memory and
    stay the same object, as by `resize` and `__setstate__`.
    """

    def __init__(self, entries: Sequence[KernelEntry]) -> None:
        planned = plan(entries)
        self._batches, self._positions = [b for b, _ in planned], [positions for _, positions in planned]
        self._tables = [np.zeros((len(p), len(b.arrays)), dtype=np.int64) for b, p in planned]
        pairs = zip(self._tables, self._positions, strict=True)
        addresses = {i: table[row] for table, positions in pairs for row, i in enumerate(positions)}
        self._addresses = [addresses[i] for i in range(len(entries))]
        self._rows: list[int] = []

    def run(
        self, arrays: AllArrays, scalars: Sequence[Scalars], rows: list[int], model: Model, threads: int | None
    ) -> Model:
        """One step in place. `rows` says which row of `scalars` each parameter takes; returns the model's numbers."""
        copies = self._write_addresses(arrays)
        if rows != self._rows:
            self._assign(rows)
        by_batch = [[scalars[row] for row in used] for used in self._used]
        new = run(self._batches, self._tables, by_batch, self._batch_rows, model, threads)
        for x, copy in copies:
            x[...] = copy
        return new

    def _assign(self, rows: list[int]) -> None:
        """Which rows of coefficients each batch uses, and which of those each of its parameters takes."""
        self._rows, self._used, self._batch_rows = rows, list[list[int]](), list["np.ndarray | None"]()
        for positions in self._positions:
            used = list(dict.fromkeys(rows[i] for i in positions))
            index = np.array([used.index(rows[i]) for i in positions], dtype=np.int64)
            self._used.append(used)
            self._batch_rows.append(index if len(used) > 1 else None)

    def _write_addresses(self, arrays: AllArrays) -> list[tuple[np.ndarray, np.ndarray]]:
        """Writes the address of each array; returns those to be copied back, because no kernel can walk them."""
        copies = []
        for addresses, current in zip(self._addresses, arrays, strict=True):
            for k, x in enumerate(current):
                flags = x.flags
                if not (flags.c_contiguous and flags.aligned):
                    current[k] = copy = np.require(x, requirements=["C", "A"])
                    if k != _GRADIENT:
                        copies.append((x, copy))
            addresses[:] = [x.__array_interface__["data"][0] for x in current]
        return copies


class NumpyExecutor:
    """Steps by numpy operations, in the dtype of the arithmetic."""

    def __init__(self, entries: Sequence[KernelEntry]) -> None:
        self._positions = grouped(range(len(entries)), lambda i: entries[i][0])
        numbers = [[s.name for s in program.slots if s.extent is Extent.MODEL] for program, _, _ in entries]
        self._dtypes = [
            [(name, dtype) for name, dtype in dtypes.items() if name not in names]
            for (_, _, dtypes), names in zip(entries, numbers, strict=True)
        ]

    def run(
        self, arrays: AllArrays, scalars: Sequence[Scalars], rows: list[int], model: Model, threads: int | None
    ) -> Model:
        """One step in place, as `KernelExecutor.run`."""
        for program, positions in self._positions.items():
            leaves = [{**self._load(i, arrays[i]), **model} for i in positions]
            results = reference.step(program, leaves, [scalars[rows[i]] for i in positions])
            for i, result in zip(positions, results, strict=True):
                self._store(i, arrays[i], result)
            model = {name: float(results[-1][name]) for name in model}
        return model

    def _load(self, i: int, arrays: ParamArrays) -> dict[str, np.ndarray]:
        compute = storage.compute_dtype(self._dtypes[i][0][1])
        named = zip(self._dtypes[i], arrays, strict=True)
        return {name: storage.load(x, dtype).astype(compute, copy=False) for (name, dtype), x in named}

    def _store(self, i: int, arrays: ParamArrays, result: Mapping[str, np.ndarray]) -> None:
        for k, ((name, dtype), x) in enumerate(zip(self._dtypes[i], arrays, strict=True)):
            if k != _GRADIENT:
                x[...] = storage.store(np.asarray(result[name]), dtype)


ArrayExecutor = KernelExecutor | NumpyExecutor
