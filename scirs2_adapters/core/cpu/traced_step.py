"""The step by compiled kernels in a program that a framework records: pass by pass a foreign call, and between two
passes of a rule with norms or sums the framework's operations on what is smaller than a tensor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ..formats import DITHER
from ..ops import Array, Ops, Scalars
from ..slots import Extent
from ..step.levels import LevelValues
from .batch import Batch


class Vectors(Protocol):
    """What a framework does with short vectors."""

    def stack(self, numbers: Sequence[Array], dtype: str) -> Array:
        """Numbers as a vector."""

    def take(self, x: Array, places: Sequence[int]) -> Array:
        """The numbers of a vector at these places."""

    def columns(self, vectors: Sequence[Array], height: int, dtype: str) -> Array:
        """A matrix with these columns, each a vector or one number for all rows; of one zero where there is none."""

    def cast(self, x: Array, dtype: str) -> Array:
        """An array in another dtype."""


class TracedStep(ABC):
    """One batch during one step. A subclass calls the kernels.

    `rows` are rows of coefficients, of which `index` says which one each tensor takes; `model` are the numbers of the
    model, and `numbers` the slots of one number, by name, for each tensor.
    """

    def __init__(
        self,
        batch: Batch,
        ops: Ops,
        vectors: Vectors,
        rows: Sequence[Scalars],
        index: Sequence[int],
        model: Mapping[str, Array],
        numbers: Mapping[str, Sequence[Array]],
    ) -> None:
        self.batch, self._vectors = batch, vectors
        program, compute, tensors = batch.program, batch.kernel.compute, len(batch.shapes)
        self._numbers = list(numbers)
        # Values are arrays with a number for each tensor, or for each row of coefficients.
        per_tensor = bool(program.levels or numbers)
        self.rows = list(range(tensors)) if per_tensor else list(index)
        self.width = tensors if per_tensor else len(rows)
        names = [n for n in (*program.scalars, DITHER) if n in rows[0]]
        scalars = {n: vectors.stack([r[n] for r in rows], compute) for n in names}
        if per_tensor:
            scalars = {n: vectors.take(x, index) for n, x in scalars.items()}
        self._dither = scalars.get(DITHER)
        leaf = {n: vectors.cast(x, compute) for n, x in model.items()}
        leaf |= {n: vectors.stack(values, compute) for n, values in numbers.items()}
        sizes = np.array([max(1, math.prod(s)) for s in batch.shapes], compute)
        self.values = LevelValues(program, ops, leaf, scalars, sizes, lambda total: vectors.cast(total, compute))

    @abstractmethod
    def call(self, level: int, coefficients: Array) -> Array:
        """Calls the kernel of a pass; returns its sums, a row for each tensor, if it makes any."""

    def run_pass(self, level: int) -> None:
        """Calls the kernel of a pass and takes its sums."""
        this = self.batch.kernel.passes[level]
        columns = [self.values[i] for i in this.parts.coefficients] + [self._dither] * this.dithered
        sums = self.call(level, self._vectors.columns(columns, self.width, self.batch.kernel.compute))
        for k, i in enumerate(this.parts.sums):
            self.values.take_sums(i, sums[:, k])

    def new_numbers(self) -> dict[str, Array]:
        """The new values of the slots of one number: for each a vector, or one number for all tensors."""
        return {n: self.values[self.batch.program.outputs[n]] for n in self._numbers}


def number_slots(batch: Batch) -> list[str]:
    """The slots of one number, which no pass stores."""
    return [s.name for s in batch.program.slots if s.extent is Extent.TENSOR]
