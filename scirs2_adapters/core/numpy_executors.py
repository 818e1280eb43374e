"""How `HostOptimizer` steps its arrays: by a compiled kernel, or by numpy operations.

The arrays of a parameter are a list, in the order of `array_names`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .cpu import engine, storage
from .cpu.batch import addresses_of
from .formats import DITHER, companion
from .ops import Scalars
from .step import reference
from .step.plan import array_names, grouped
from .step.protocols import KernelEntry, Model
from .step.tables import AddressTables

ParamArrays = list[np.ndarray]
AllArrays = Sequence[ParamArrays]
_GRADIENT = 1


class KernelExecutor:
    """Steps by the compiled kernel. Every address is asked for at each step: an array can get other memory and
    stay the same object, as by `resize` and `__setstate__`.
    """

    def __init__(self, entries: Sequence[KernelEntry]) -> None:
        self._kernel = tables = AddressTables(engine, entries)
        rows: dict[int, np.ndarray] = {}
        for places, table in zip(tables.places, tables.tables, strict=True):
            rows |= zip(places.tolist(), table, strict=True)
        self._addresses = [rows[i] for i in range(len(entries))]
        #: Whether the arrays of the last step lay where a kernel can walk them.
        self.walked = False

    @property
    def allocated(self) -> int:
        """Bytes of its tables and batches, and of what a step makes and drops."""
        return self._kernel.allocated

    def run(
        self, arrays: AllArrays, scalars: Sequence[Scalars], rows: list[int], model: Model, threads: int | None
    ) -> Model:
        """One step in place. `rows` says which row of `scalars` each parameter takes; returns the model's numbers."""
        copies = self._write_addresses(arrays)
        new = self.run_again(scalars, rows, model, threads)
        for x, copy in copies:
            x[...] = copy
        return new

    def run_again(self, scalars: Sequence[Scalars], rows: list[int], model: Model, threads: int | None) -> Model:
        """One step of the arrays of the last one, which lie where they lay then."""
        self._kernel.assign(rows)
        return self._kernel.run(scalars, model, threads)

    def _write_addresses(self, arrays: AllArrays) -> list[tuple[np.ndarray, np.ndarray]]:
        """Writes the address of each array; returns those to be copied back, because no kernel can walk them."""
        copies, self.walked = [], True
        for row, current in zip(self._addresses, arrays, strict=True):
            for k, x in enumerate(current):
                flags = x.flags
                if not (flags.c_contiguous and flags.aligned):
                    self.walked = False
                    current[k] = copy = np.require(x, requirements=["C", "A"])
                    if k != _GRADIENT:
                        copies.append((x, copy))
            row[:] = addresses_of(current)
        return copies


class NumpyExecutor:
    """Steps by numpy operations, in the dtype of the arithmetic. What these operations allocate is not known."""

    allocated = None

    def __init__(self, entries: Sequence[KernelEntry]) -> None:
        self._positions = grouped(range(len(entries)), lambda i: entries[i][0])
        self._dtypes = [dtypes for _, _, dtypes in entries]
        self._names = [array_names(program.slots, dtypes) for program, _, dtypes in entries]

    def run(
        self, arrays: AllArrays, scalars: Sequence[Scalars], rows: list[int], model: Model, threads: int | None
    ) -> Model:
        """One step in place, as `KernelExecutor.run`."""
        for program, positions in self._positions.items():
            leaves = [{**self._load(i, arrays[i]), **model} for i in positions]
            results = reference.step(program, leaves, [scalars[rows[i]] for i in positions])
            for i, result in zip(positions, results, strict=True):
                self._store(i, arrays[i], result, scalars[rows[i]].get(DITHER, 0.5))
            model = {name: float(results[-1][name]) for name in model}
        return model

    def _load(self, i: int, arrays: ParamArrays) -> dict[str, np.ndarray]:
        dtypes, named = self._dtypes[i], dict(zip(self._names[i], arrays, strict=True))
        compute, numbers = storage.compute_dtype(dtypes["p"]), {}
        for name in named.keys() & dtypes.keys():
            other = named.get(companion(name, dtypes[name]) or "")
            numbers[name] = storage.load(named[name], dtypes[name], other).astype(compute, copy=False)
        return numbers

    def _store(self, i: int, arrays: ParamArrays, result: Mapping[str, np.ndarray], dither: float) -> None:
        dtypes, named = self._dtypes[i], dict(zip(self._names[i], arrays, strict=True))
        # The parameter is last: a slot may take the gradient as it is, which may be the parameter itself.
        for name in (*((named.keys() & dtypes.keys()) - {"p", "g"}), "p"):
            before = named.get(companion(name, dtypes[name]) or "")
            stored, *other = storage.store_parts(np.asarray(result[name]), dtypes[name], dither, before)
            named[name][...] = stored
            if before is not None:
                before[...] = other[0]


ArrayExecutor = KernelExecutor | NumpyExecutor
