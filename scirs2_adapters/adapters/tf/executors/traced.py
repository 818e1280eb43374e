"""The formula traced in `keras.ops`, on every backend.

A rule for sparse gradients steps the rows that a gradient has and leaves the others alone, memory included. Where a
gradient is dense, as an embedding's is on JAX and torch, those are the rows that are not zero throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keras import ops

from scirs2_adapters.core.ops import Scalars
from scirs2_adapters.core.program.interpret import run

from ..ops import OPS, Tensor
from ..state import RuleState, VariableEntry
from ..state.keras_types import KerasVariable
from .gradients import dense, touched_rows

Tensors = Mapping[str, Tensor]


class Update(NamedTuple):
    """One variable's part of a step. Under a TensorFlow strategy `variable` is the replica's of `entry.variable`."""

    entry: VariableEntry
    gradient: Tensor
    variable: KerasVariable
    coefficients: Scalars


def step(optimizer: RuleState, updates: Sequence[Update], model: Mapping[str, KerasVariable]) -> None:
    """Step variables of one program, whose rule may keep the numbers `model` of the whole model."""
    program, compute = updates[0].entry.program, updates[0].entry.compute
    numbers = {name: _load(variable, compute) for name, variable in model.items()}
    before = [_arrays(optimizer, update) | numbers for update in updates]
    coefficients = [update.coefficients for update in updates]
    after = run(program, OPS, before, coefficients, ["p", *(s.name for s in program.slots)])
    for update, old, new in zip(updates, before, after, strict=True):
        _assign(optimizer, update, old, new)
    for name, variable in model.items():
        optimizer.assign(variable, after[0][name])


def _assign(optimizer: RuleState, update: Update, old: Tensors, new: Tensors) -> None:
    if update.entry.rule.sparse == "rows":
        touched = touched_rows(update.gradient, update.entry)
        new = {name: ops.where(touched, value, old[name]) for name, value in new.items()}
    optimizer.assign(update.variable, new["p"])
    for name, variable in update.entry.slots.items():
        optimizer.assign(variable, new[name])


def _arrays(optimizer: RuleState, update: Update) -> dict[str, Tensor]:
    """The arrays of a variable by their names in the formula, in the dtype of the arithmetic."""
    entry = update.entry
    arrays = {"p": update.variable, "g": dense(update.gradient, entry), **entry.slots}
    loaded = {name: _load(array, entry.compute) for name, array in arrays.items()}
    if entry.late:
        first = ops.equal(ops.convert_to_tensor(optimizer.iterations), 0)
        loaded |= {name: ops.where(first, loaded["p"], loaded[name]) for name in entry.late}
    return loaded


def _load(array: Tensor, dtype: str) -> Tensor:
    return ops.cast(ops.stop_gradient(ops.convert_to_tensor(array)), dtype)
