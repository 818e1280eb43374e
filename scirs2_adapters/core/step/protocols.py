"""What takes part in a step and what each part promises: an executor steps parameters, an engine runs kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np

from ..ops import Scalar, Scalars
from ..program.recorded import Program

Grad = TypeVar("Grad", contravariant=True)
Batch = TypeVar("Batch", bound="Allocating")
#: The numbers that a rule keeps for the whole model, by slot; an engine may leave them on its device.
Model = Mapping[str, Scalar]
#: What an engine must know of a parameter: its program, its shape, and the storage dtype of "p", "g" and each slot.
KernelEntry = tuple[Program, tuple[int, ...], Mapping[str, str]]


class Executor(Protocol[Grad]):
    """Steps the parameters that it was made for, as often as it is called."""

    @property
    def allocated(self) -> int | None:
        """Bytes that it keeps, with what a step makes and drops; None if the framework alone knows."""

    def holds(self, grads: Sequence[Grad]) -> bool:
        """Whether the arrays are still those that it was made for, so that `run` may be called with these gradients."""

    def assign(self, coefficient_row: Mapping[int, int]) -> None:
        """Takes the row of coefficients of each parameter, by the `id` of its entry."""

    def run(self, grads: Sequence[Grad], scalars: Sequence[Scalars], model: Model) -> Model:
        """Steps the parameters in place by these rows of coefficients; returns the new numbers of the model."""


class Allocating(Protocol):
    """What knows how many bytes it keeps, with what a step makes and drops."""

    @property
    def allocated(self) -> int: ...

    @property
    def transient(self) -> int:
        """Bytes that are there besides while it runs, and gone before the next of its kind does."""


class Engine(Protocol[Batch]):
    """Runs compiled kernels in one memory. `core.cpu.engine` is the engine of the host's."""

    def plan(self, entries: Sequence[KernelEntry]) -> list[tuple[Batch, list[int]]]:
        """Sorts parameters into batches that one kernel serves; with each batch, the places of its parameters."""

    def run(
        self,
        batches: Sequence[Batch],
        tables: Sequence[np.ndarray],
        scalars: Sequence[Sequence[Scalars]],
        rows: Sequence[np.ndarray | None],
        model: Model,
        threads: int | None,
    ) -> Model:
        """One step of all batches in place; returns the new numbers of the model.

        For each batch: `tables` has the addresses of its arrays, a row for each parameter; `scalars` its rows of
        coefficients; `rows` says which of them each parameter takes, or is None if there is one. Without `threads` the
        engine decides.
        """


__all__ = ["Engine", "Executor", "KernelEntry", "Model", "Scalars"]
