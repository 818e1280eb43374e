"""The formula traced in `keras.ops`, on every backend.

One step is taken for all variables together, so that scalars are computed once and a rule that sums over the model
sees all of it. Under a TensorFlow strategy the step runs inside `extended.update`, once on each replica, with the
gradients already summed.

A rule for sparse gradients steps the rows that a gradient gives and leaves the others alone, memory included. Where a
gradient is dense, as an embedding's is on JAX and torch, those are the rows that are not zero throughout.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from scirs2_adapters.core.program.interpret import run
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import takes_host

from ..ops import OPS, number, scalars
from ..state import Member, raw

KERNEL_OBSTACLE = "Keras optimizers run the framework's own operations only"
Pair = tuple[Any, Any]


def step(optimizer: Any, pairs: Sequence[Pair], learning_rate: Any) -> None:
    """One step of these (gradient, variable) pairs."""
    takes_host(type(optimizer).__name__, optimizer.kernel, KERNEL_OBSTACLE)
    if not optimizer._traced and any(is_traced(g) for g, _ in pairs):
        optimizer._traced = True
    memory, schedule = optimizer.memory, Schedule(optimizer, learning_rate)
    members = [memory.members[optimizer._get_variable_index(v)] for _, v in pairs]
    together = [list(range(len(pairs)))] if memory.model else [[i] for i in range(len(pairs))]
    shared = {name: _load(variable, members[0].compute) for name, variable in memory.model.items()}
    for indices in together:
        leaves = [_arrays(optimizer, members[i], *pairs[i]) | shared for i in indices]
        numbers = [schedule.scalars(members[i]) for i in indices]
        program = members[indices[0]].program
        new = run(program, OPS, leaves, numbers, ["p", *(s.name for s in program.slots)])
        for i, leaf, values in zip(indices, leaves, new, strict=True):
            if memory.families[members[i].family].sparse == "rows":
                given = given_rows(pairs[i][0], members[i])
                values = {k: ops.where(given, x, leaf[k]) for k, x in values.items()}
            optimizer.assign(pairs[i][1], values["p"])
            for name, variable in members[i].slots.items():
                optimizer.assign(variable, values[name])
        for name, variable in memory.model.items():
            optimizer.assign(variable, new[0][name])


class Schedule:
    """The scalars of one step, computed once for each rule and dtype that needs them."""

    def __init__(self, optimizer: Any, learning_rate: Any) -> None:
        self._optimizer, self._rate = optimizer, learning_rate
        self._known: dict[Any, dict[str, Any]] = {}

    def scalars(self, member: Member) -> dict[str, Any]:
        """All scalars of this variable's step."""
        decays = self._optimizer._use_weight_decay(member.variable)
        key = (member.family, member.compute, decays)
        if key not in self._known:
            self._known[key] = self._rule(member, decays).scalars(scalars(member.compute), self._count(member.compute))
        return {**self._known[key], **self._optimizer.memory.families[member.family].leaf_coefficients(member.leaf)}

    def _rule(self, member: Member, decays: bool) -> Rule:
        """The rule with the rate and the decay that hold now."""
        rate = self._rate
        if not isinstance(rate, (int, float)):
            rate = self._as_given(number(ops.convert_to_tensor(rate), member.compute), member.compute)
        decay = self._optimizer.weight_decay if decays else 0.0
        return self._optimizer.rule.replace_unchecked({"learning_rate": rate, "weight_decay": decay or 0.0}).route(
            member.leaf
        )

    def _as_given(self, rate: Any, dtype: str) -> Any:
        """Its variable holds a constant rate in float32; as long as it does, a float64 step takes the number itself."""
        constant = self._optimizer.constant_rate
        if constant is None or dtype != "float64":
            return rate
        exact, held = (number(x, dtype) for x in constant)
        return ops.where(ops.equal(rate, held), exact, rate)

    def _count(self, dtype: str) -> Any:
        return ops.cast(ops.convert_to_tensor(self._optimizer.iterations), dtype) + 1


def _arrays(optimizer: Any, member: Member, gradient: Any, variable: Any) -> dict[str, Any]:
    arrays = {"p": variable, "g": dense(gradient, member), **member.slots}
    loaded = {name: _load(x, member.compute) for name, x in arrays.items()}
    if member.late:
        first = ops.equal(ops.convert_to_tensor(optimizer.iterations), 0)
        loaded |= {name: ops.where(first, loaded["p"], loaded[name]) for name in member.late}
    return loaded


def _load(x: Any, dtype: str) -> Any:
    return ops.cast(ops.stop_gradient(ops.convert_to_tensor(x)), dtype)


def is_slices(gradient: Any) -> bool:
    """Whether a gradient is TensorFlow's of some rows."""
    return hasattr(gradient, "values") and hasattr(gradient, "indices") and hasattr(gradient, "dense_shape")


def is_traced(gradient: Any) -> bool:
    """Whether a step is being compiled: what is a Python value now is a constant then."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        return not tensorflow.executing_eagerly()
    jax = sys.modules.get("jax") if keras.backend.backend() == "jax" else None
    return jax is not None and isinstance(gradient, jax.core.Tracer)


def dense(gradient: Any, member: Member) -> Any:
    """A gradient with an entry for every element; rows that occur twice in a sparse one are summed."""
    if is_slices(gradient):
        return _summed(ops.cast(gradient.values, member.compute), gradient, member)
    return ops.convert_to_tensor(gradient, sparse=False)


def _summed(values: Any, gradient: Any, member: Member) -> Any:
    import tensorflow

    return tensorflow.math.unsorted_segment_sum(values, gradient.indices, member.leaf.shape[0])


def merged(gradient: Any) -> Any:
    """The same gradient, of which the first of the slices of one row holds their sum and the others are zero: what is
    squared or clipped next would take each for a row of its own.
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


def given_rows(gradient: Any, member: Member) -> Any:
    """Which rows a gradient gives, in a form that broadcasts against the variable. A number has one, which it gives."""
    rest = len(member.leaf.shape) - 1
    if is_slices(gradient):
        times = _summed(ops.ones_like(gradient.indices), gradient, member)
        return ops.reshape(ops.greater(times, 0), (-1, *[1] * rest))
    if rest < 0:
        return True
    return ops.any(ops.not_equal(dense(gradient, member), 0), axis=tuple(range(1, rest + 1)), keepdims=True)


def distributed() -> bool:
    """Whether a TensorFlow strategy keeps a variable in several places."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow

    return tensorflow.distribute.has_strategy()


def step_together(optimizer: Any, pairs: Sequence[Pair], learning_rate: Any) -> None:
    """One step under a strategy of a rule that sums over the whole model."""
    import tensorflow

    def merged(strategy: Any, pairs: Sequence[Pair], learning_rate: Any) -> None:
        gradients, variables = zip(*pairs, strict=True)

        def local(first: Any, gradients: Any, variables: Any, learning_rate: Any) -> None:
            del first
            step(optimizer, list(zip(gradients, variables, strict=True)), learning_rate)

        strategy.extended.update(variables[0], local, args=(gradients, variables, learning_rate), group=False)

    summed = optimizer._all_reduce_sum_gradients([(g, raw(v)) for g, v in pairs])
    context = tensorflow.distribute.get_replica_context()
    if context is None:
        merged(optimizer._distribution_strategy, summed, learning_rate)
    else:
        context.merge_call(merged, args=(summed, learning_rate))
