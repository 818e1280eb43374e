"""A step in the operations of `keras.ops`, on every backend.

A rule for sparse gradients steps the rows that a gradient has and leaves the others alone, memory included. Where a
gradient is dense, as an embedding's is on JAX and torch, those are the rows that are not zero throughout.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from keras import ops

from scirs2_adapters.core.formats import DITHER, companion
from scirs2_adapters.core.ops import Scalars
from scirs2_adapters.core.program.interpret import run
from scirs2_adapters.core.program.recorded import Program

from ..gradients import touched_rows
from ..ops import OPS, Tensor, detached
from ..state import RuleState, VariableEntry, coded
from ..state.keras_types import KerasVariable
from .rows import Part, after, part_of

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
    parts = [part_of(optimizer, update.entry, update.gradient) for update in updates]
    if parts[0].linear is not None:
        _subtract(optimizer, updates[0], parts[0])
        return
    program, compute = updates[0].entry.program, updates[0].entry.compute
    numbers = {name: ops.cast(_number(variable), compute) for name, variable in model.items()}
    before = [_inputs(optimizer, *pair) | numbers for pair in zip(updates, parts, strict=True)]
    coefficients = [update.coefficients for update in updates]
    stepped = run(program, OPS, before, coefficients, ["p", *(s.name for s in program.slots)])
    for update, part, old, new in zip(updates, parts, before, stepped, strict=True):
        if part.rest is None:
            _assign(optimizer, update, part, old, new)
            continue
        with after([part.gradient]):
            assigned = _step_rest(optimizer, update, part.rest)
        with after(assigned):
            _assign(optimizer, update, part, old, new)
    for name, variable in model.items():
        optimizer.assign(variable, stepped[0][name])


def _subtract(optimizer: RuleState, update: Update, part: Part) -> None:
    """Step the rows of a gradient of which a multiple is subtracted."""
    assert part.linear is not None
    (multiple,) = run(part.linear, OPS, [{"g": 1.0}], [update.coefficients], ["step"])
    part.subtract(optimizer, update.variable, part.gradient * multiple["step"])


def _step_rest(optimizer: RuleState, update: Update, rest: Program) -> list[Tensor]:
    """Step all rows as if they had no gradient; what was assigned."""
    entry, whole = update.entry, Part(None)
    changed = [name for name in ("p", *entry.slots) if name in rest.outputs.keys() - rest.kept]
    if changed[:1] == ["p"] and "step" in rest.outputs and entry.storages["p"] == entry.compute:
        changed[0] = "step"  # subtracted in place
    read = {rest.nodes[i].name for i in rest.order([rest.outputs[name] for name in changed])}
    before = _arrays(update, whole, read)
    (new,) = run(rest, OPS, [before], [update.coefficients], changed)
    _assign(optimizer, update, whole, before, {name: x for name, x in new.items() if name != "step"})
    if "step" in new:
        optimizer.assign_sub(update.variable, new["step"])
    return list(new.values())


def _assign(optimizer: RuleState, update: Update, part: Part, old: Tensors, new: Tensors) -> None:
    if update.entry.rule.sparse == "rows" and not part.gathered:
        touched = touched_rows(update.gradient, update.entry)
        new = {name: ops.where(touched, value, old[name]) for name, value in new.items()}
    entry = update.entry
    variables = {"p": update.variable, **entry.slots}
    for name in filter(new.__contains__, variables):
        numbers, storage = new[name], entry.storages[name]
        if (other := companion(name, storage)) is None:
            part.write(optimizer, name, variables[name], numbers)
            continue
        before = part.read(variables[other])
        stored, rest = coded.store(storage, numbers, update.coefficients[DITHER], before)
        part.write(optimizer, name, variables[name], stored)
        part.write(optimizer, other, variables[other], rest)


def _inputs(optimizer: RuleState, update: Update, part: Part) -> dict[str, Tensor]:
    """The arrays of a variable by their names in the formula, in the dtype of the arithmetic."""
    entry = update.entry
    loaded = _arrays(update, part, entry.storages)
    loaded["g"] = ops.cast(detached(part.gradient), entry.compute)
    if entry.late:
        first = ops.equal(ops.convert_to_tensor(optimizer.iterations), 0)
        loaded |= {name: ops.where(first, loaded["p"], loaded[name]) for name in entry.late}
    return loaded


def _arrays(update: Update, part: Part, names: Container[str]) -> dict[str, Tensor]:
    """Those of the variable and its slots that are named."""
    arrays = {"p": update.variable, **update.entry.slots}
    stored = update.entry.storages.keys() & arrays.keys()
    return {name: _load(name, arrays, update.entry, part) for name in arrays if name in stored and name in names}


def _load(name: str, variables: Mapping[str, KerasVariable], entry: VariableEntry, part: Part) -> Tensor:
    storage = entry.storages[name]
    other, x = companion(name, storage), part.read(variables[name])
    numbers = x if other is None else coded.load(storage, x, part.read(variables[other]))
    return ops.cast(numbers, entry.compute)


def _number(variable: KerasVariable) -> Tensor:
    return detached(ops.convert_to_tensor(variable))
