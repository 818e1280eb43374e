"""Parameters as an engine's kernels see them: tables of addresses, and which row of coefficients each one takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

import numpy as np

from .plan import array_names
from .protocols import Batch, Engine, KernelEntry, Model, Scalars


class AddressTables(Generic[Batch]):
    """The batches of an engine. `places` says which parameters each is of, `tables` where their arrays are, a row for
    each parameter and a column for each of `array_names`. Who steps writes the addresses, and keeps the arrays alive.
    """

    def __init__(self, engine: Engine[Batch], entries: Sequence[KernelEntry]) -> None:
        planned = engine.plan(entries)
        self._engine, self._batches = engine, [batch for batch, _ in planned]
        self.places = [np.array(places) for _, places in planned]
        columns = [len(array_names(entries[places[0]][0].slots, entries[places[0]][2])) for _, places in planned]
        self.tables = [np.zeros((len(at), n), dtype=np.int64) for at, n in zip(self.places, columns, strict=True)]
        self._row_of: list[int] | None = None

    @property
    def allocated(self) -> int:
        """Bytes of its tables and batches, and of what a step makes and drops."""
        arrays = sum(x.nbytes for x in (*self.tables, *self.places, *self._rows) if x is not None)
        transient = max((batch.transient for batch in self._batches), default=0)
        return arrays + sum(batch.allocated for batch in self._batches) + transient

    def assign(self, row_of: list[int]) -> None:
        """Takes the row of coefficients of each parameter."""
        if row_of == self._row_of:
            return
        self._row_of, self._needed, self._rows = row_of, list[list[int]](), list["np.ndarray | None"]()
        for places in self.places:
            rows = [row_of[i] for i in places]
            needed = list(dict.fromkeys(rows))
            self._needed.append(needed)
            self._rows.append(np.array(list(map(needed.index, rows)), dtype=np.int64) if len(needed) > 1 else None)

    def run(self, scalars: Sequence[Scalars], model: Model, threads: int | None) -> Model:
        """One step of all in place, by these rows of coefficients; the new numbers of the model."""
        of_batch = [list(map(scalars.__getitem__, needed)) for needed in self._needed]
        return self._engine.run(self._batches, self.tables, of_batch, self._rows, model, threads)
