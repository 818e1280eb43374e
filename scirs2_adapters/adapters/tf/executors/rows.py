"""The part of a variable that a step reads and writes: all of it, or some rows if TensorFlow's gradient has only these.

The rows of the variable and of its slots are gathered, stepped as a small variable and put back. If an element whose
gradient is zero keeps its value and memory, or the rule steps rows alone, that is all, at the cost of these rows. Else
the other rows get what the formula makes of a zero gradient: RMSprop's means decay there, and weight decay moves them.
All of it is known from the recorded formula. A formula that needs more than the element gets the whole gradient, and so
do codes, which change along with their block. If the variable alone would keep its value, as with Adafactor, only its
rows are written then.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from keras import ops

from scirs2_adapters.core.formats import companion
from scirs2_adapters.core.program.recorded import Program
from scirs2_adapters.core.program.zero_gradient import (
    kept_by_zero_gradient,
    multiple_of_gradient,
    without_gradient,
    zero_gradient_is_noop,
)
from scirs2_adapters.core.rounding import ROUNDING_ERROR

from ..gradients import dense, in_xla, is_slices, row_sums, rows_once
from ..ops import Tensor, detached
from ..state import RuleState, VariableEntry, raw
from ..state.keras_types import KerasVariable
from .current_rule import does_decay


class Part(NamedTuple):
    """What a step reads and writes of one variable. `gradient` is of what is read.

    `rows` are the indices of the rows that are written, None for all; a row that occurs twice is written twice, with
    the same numbers. `gathered` says whether they alone are stepped, and written in the slots too; `rest` then is what
    becomes of the other rows, if anything. `linear` is the formula where all that it does is to subtract a
    multiple of the gradient; no row occurs twice then, because TensorFlow subtracts in any order.
    """

    gradient: Tensor
    rows: Tensor = None
    gathered: bool = False
    rest: Program | None = None
    linear: Program | None = None

    def read(self, variable: KerasVariable) -> Tensor:
        """The numbers of a variable or slot."""
        if not self.gathered:
            return detached(ops.convert_to_tensor(variable))
        with after([self.gradient]):  # until it is there, the model reads the variable
            if self.rest is None:
                return detached(_gather(raw(variable), self.rows))
            _share_reads(variable)  # all of it is read anyhow
            return detached(_gather(ops.convert_to_tensor(variable), self.rows))

    def write(self, optimizer: RuleState, name: str, variable: KerasVariable, value: Tensor) -> None:
        """Assign the new numbers of a variable, whose name is "p", or slot."""
        if self.rows is None or not (self.gathered or name == "p"):
            optimizer.assign(variable, value)
            return
        optimizer.assign(variable, _slices(value if self.gathered else _gather(value, self.rows), self.rows))
        _share_reads(variable)

    def subtract(self, optimizer: RuleState, variable: KerasVariable, value: Tensor) -> None:
        """Subtract from the rows of a variable."""
        optimizer.assign_sub(variable, _slices(value, self.rows))
        _share_reads(variable)


def part_of(optimizer: RuleState, entry: VariableEntry, gradient: Tensor) -> Part:
    """What this gradient lets a step leave out."""
    if not is_slices(gradient):
        return Part(dense(gradient, entry))
    program, rows, decays = entry.program, gradient.indices, does_decay(optimizer, entry)
    if (linear := linear_formula(optimizer, entry)) is not None:
        return Part(*rows_once(gradient, entry.compute), linear=linear)
    if _by_element(entry):
        alone = entry.rule.sparse == "rows" or (not decays and zero_gradient_is_noop(program))
        rest = None if alone else without_gradient(program, decays)
        if alone or rest is not None:
            return Part(row_sums(gradient, entry.compute), rows, True, rest)
    by_rows = not decays and "p" in kept_by_zero_gradient(program) and companion("p", entry.storages["p"]) is None
    return Part(dense(gradient, entry), rows if by_rows else None)


def linear_formula(optimizer: RuleState, entry: VariableEntry) -> Program | None:
    """The formula where a step does no more than to subtract a multiple of the gradient, and rounds nothing."""
    exact = entry.storages["p"] == entry.compute and not does_decay(optimizer, entry)
    return multiple_of_gradient(entry.program) if exact else None


def _by_element(entry: VariableEntry) -> bool:
    """Whether each number is stored by itself and there already. Codes change along with their block, and the bits of
    stochastic rounding go by the place in the whole.
    """
    companions = {companion(name, storage) for name, storage in entry.storages.items()}
    return not entry.late and companions <= {None, ROUNDING_ERROR}


def after(tensors: Sequence[Tensor]) -> AbstractContextManager[object]:
    """Where rows are read or written when these are there: as long as something is computed from what a variable holds,
    TensorFlow would copy all of it.
    """
    import tensorflow

    return tensorflow.control_dependencies(list(tensors))


def _gather(x: Tensor, indices: Tensor) -> Tensor:
    import tensorflow

    return tensorflow.gather(x, indices)


def _slices(values: Tensor, rows: Tensor) -> Tensor:
    import tensorflow

    return tensorflow.IndexedSlices(values, rows)


def _share_reads(variable: KerasVariable) -> None:
    """Let the next read of a variable, as by Keras' Embedding, be no copy: TensorFlow begins to copy what it reads of
    one whose rows were read or written alone. Whoever has read it keeps what he has: the next write makes the copy.
    """
    import tensorflow

    if not in_xla():
        tensorflow.raw_ops.DisableCopyOnRead(resource=raw(variable).handle)
