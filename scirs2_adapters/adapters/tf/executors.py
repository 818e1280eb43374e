"""How a step is taken: the formula traced in `keras.ops`, on every backend. A gradient is a tensor, or TensorFlow's
slices of some rows, in which a row may occur more than once.

A rule for sparse gradients steps the rows that a gradient has and leaves the others alone, memory included. Where a
gradient is dense, as an embedding's is on JAX and torch, those are the rows that are not zero throughout.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
from keras import ops

from scirs2_adapters.core.formats import DITHER, companion
from scirs2_adapters.core.ops import Scalars
from scirs2_adapters.core.program.interpret import run

from .ops import OPS, Tensor
from .state import RuleState, VariableEntry, coded
from .state.keras_types import KerasVariable

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
    numbers = {name: ops.cast(_value(variable), compute) for name, variable in model.items()}
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
    entry = update.entry
    variables = {"p": update.variable, **entry.slots}
    for name, storage in entry.storages.items():
        if name not in variables:  # the gradient
            continue
        if (other := companion(name, storage)) is None:
            optimizer.assign(variables[name], new[name])
            continue
        before = _value(variables[other])
        stored, rest = coded.store(storage, new[name], update.coefficients[DITHER], before)
        optimizer.assign(variables[name], stored)
        optimizer.assign(variables[other], rest)


def _arrays(optimizer: RuleState, update: Update) -> dict[str, Tensor]:
    """The arrays of a variable by their names in the formula, in the dtype of the arithmetic."""
    entry = update.entry
    arrays = {"p": update.variable, "g": dense(update.gradient, entry), **entry.slots}
    loaded = {name: _load(name, arrays, entry) for name in entry.storages}
    if entry.late:
        first = ops.equal(ops.convert_to_tensor(optimizer.iterations), 0)
        loaded |= {name: ops.where(first, loaded["p"], loaded[name]) for name in entry.late}
    return loaded


def _load(name: str, arrays: Tensors, entry: VariableEntry) -> Tensor:
    storage = entry.storages[name]
    other, x = companion(name, storage), _value(arrays[name])
    numbers = x if other is None else coded.load(storage, x, _value(arrays[other]))
    return ops.cast(numbers, entry.compute)


def _value(array: Tensor) -> Tensor:
    return ops.stop_gradient(ops.convert_to_tensor(array))


def is_slices(gradient: Tensor) -> bool:
    """Whether a gradient is TensorFlow's of some rows."""
    return hasattr(gradient, "values") and hasattr(gradient, "indices") and hasattr(gradient, "dense_shape")


def is_traced(gradient: Tensor) -> bool:
    """Whether a step is being compiled: what is a Python value now is a constant then."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return not tensorflow.executing_eagerly()
    jax = sys.modules.get("jax") if keras.backend.backend() == "jax" else None
    return jax is not None and isinstance(gradient, jax.core.Tracer)


def dense(gradient: Tensor, entry: VariableEntry) -> Tensor:
    """A gradient with a number for every element; rows that occur twice in a sparse one are summed."""
    if is_slices(gradient):
        return _sums(ops.cast(gradient.values, entry.compute), gradient, entry)
    return ops.convert_to_tensor(gradient, sparse=False)


def _sums(values: Tensor, gradient: Tensor, entry: VariableEntry) -> Tensor:
    """For each row of the variable the sum of its values."""
    import tensorflow

    return tensorflow.math.unsorted_segment_sum(values, gradient.indices, entry.leaf.shape[0])


def merged(gradient: Tensor) -> Tensor:
    """The same gradient in which the first slice of each row holds the row's sum and the others are zero. Without this
    a norm would take each slice for a row.
    """
    if not is_slices(gradient):
        return gradient
    import tensorflow

    indices, rows = gradient.indices, gradient.dense_shape[0]
    places = tensorflow.range(tensorflow.shape(indices)[0])
    first = tensorflow.gather(tensorflow.math.unsorted_segment_min(places, indices, rows), indices)
    sums = tensorflow.gather(tensorflow.math.unsorted_segment_sum(gradient.values, indices, rows), indices)
    once = ops.reshape(ops.equal(first, places), (-1, *[1] * (len(gradient.values.shape) - 1)))
    values = tensorflow.where(once, sums, tensorflow.zeros_like(sums))
    return tensorflow.IndexedSlices(values, indices, gradient.dense_shape)


def touched_rows(gradient: Tensor, entry: VariableEntry) -> Tensor:
    """Which rows a gradient has values for, in a form that broadcasts against the variable; of a dense gradient those
    that are not zero throughout. A number has one row, which is always stepped.
    """
    other_axes = len(entry.leaf.shape) - 1
    if is_slices(gradient):
        counts = _sums(ops.ones_like(gradient.indices), gradient, entry)
        return ops.reshape(ops.greater(counts, 0), (-1, *[1] * other_axes))
    if other_axes < 0:
        return True
    return ops.any(ops.not_equal(dense(gradient, entry), 0), axis=tuple(range(1, other_axes + 1)), keepdims=True)
