"""A step in the operations of `keras.ops`, on every backend.

A rule for sparse gradients steps the rows that a gradient has and leaves the others alone, memory included. Where a
gradient is dense, as an embedding's is on JAX and torch, those are the rows that are not zero throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from keras import ops

from scirs2_adapters.core.formats import DITHER, companion
from scirs2_adapters.core.ops import Scalars
from scirs2_adapters.core.program.interpret import run

from ..gradients import touched_rows
from ..ops import OPS, Tensor, detached
from ..state import RuleState, VariableEntry, coded
from ..state.keras_types import KerasVariable
from .rows import Part, part_of

Tensors = Mapping[str, Tensor]


class Update(NamedTuple):
    """One variable's part of a step. Under a TensorFlow strategy `variable` is the replica's of `entry.variable`; who
    steps it fills in the coefficients.
    """

    entry: VariableEntry
    gradient: Tensor
    variable: KerasVariable
    coefficients: Scalars = MappingProxyType({})


def step(optimizer: RuleState, updates: Sequence[Update], model: Mapping[str, KerasVariable]) -> None:
    """Step variables of one program, whose rule may keep the numbers `model` of the whole model."""
    program, compute = updates[0].entry.program, updates[0].entry.compute
    numbers = {name: ops.cast(_number(variable), compute) for name, variable in model.items()}
    parts = [part_of(optimizer, update.entry, update.gradient) for update in updates]
    before = [_arrays(optimizer, *pair) | numbers for pair in zip(updates, parts, strict=True)]
    coefficients = [update.coefficients for update in updates]
    after = run(program, OPS, before, coefficients, ["p", *(s.name for s in program.slots)])
    for update, part, old, new in zip(updates, parts, before, after, strict=True):
        _assign(optimizer, update, part, old, new)
    for name, variable in model.items():
        optimizer.assign(variable, after[0][name])


def _assign(optimizer: RuleState, update: Update, part: Part, old: Tensors, new: Tensors) -> None:
    if update.entry.rule.sparse == "rows" and not part.gathered:
        touched = touched_rows(update.gradient, update.entry)
        new = {name: ops.where(touched, value, old[name]) for name, value in new.items()}
    entry = update.entry
    variables = {"p": update.variable, **entry.slots}
    for name, storage in entry.storages.items():
        if name not in variables:  # the gradient
            continue
        if (other := companion(name, storage)) is None:
            part.write(optimizer, name, variables[name], new[name])
            continue
        before = part.read(variables[other])
        stored, rest = coded.store(storage, new[name], update.coefficients[DITHER], before)
        part.write(optimizer, name, variables[name], stored)
        part.write(optimizer, other, variables[other], rest)


def _arrays(optimizer: RuleState, update: Update, part: Part) -> dict[str, Tensor]:
    """The arrays of a variable by their names in the formula, in the dtype of the arithmetic."""
    entry = update.entry
    arrays = {"p": update.variable, **entry.slots}
    loaded = {name: _load(name, arrays, entry, part) for name in entry.storages if name in arrays}
    loaded["g"] = ops.cast(detached(part.gradient), entry.compute)
    if entry.late:
        first = ops.equal(ops.convert_to_tensor(optimizer.iterations), 0)
        loaded |= {name: ops.where(first, loaded["p"], loaded[name]) for name in entry.late}
    return loaded


def _load(name: str, variables: Mapping[str, KerasVariable], entry: VariableEntry, part: Part) -> Tensor:
    storage = entry.storages[name]
    other, x = companion(name, storage), part.read(variables[name])
    numbers = x if other is None else coded.load(storage, x, part.read(variables[other]))
    return ops.cast(numbers, entry.compute)


def _number(variable: KerasVariable) -> Tensor:
    return detached(ops.convert_to_tensor(variable))
