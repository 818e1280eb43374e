"""Which path runs: the formula traced in `keras.ops`, on every backend.

One step is taken for all variables together, so that scalars are computed once and a rule that sums over the model
sees all of it. Under a TensorFlow strategy the step runs inside `extended.update`, once on each replica, with the
gradients already summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from scirs2_adapters.core.execute.interpret import run
from scirs2_adapters.core.options import takes_host
from scirs2_adapters.core.rule import Rule

from .state import Member, raw
from .waist import WAIST, number, scalars

REASON = "Keras optimizers run the framework's own operations only"
Pair = tuple[Any, Any]


def step(optimizer: Any, pairs: Sequence[Pair], learning_rate: Any) -> None:
    """One step of these (gradient, variable) pairs."""
    takes_host(type(optimizer).__name__, optimizer.kernel, REASON)
    memory, schedule = optimizer.memory, Schedule(optimizer, learning_rate)
    members = [memory.members[optimizer._get_variable_index(v)] for _, v in pairs]
    together = [list(range(len(pairs)))] if memory.model else [[i] for i in range(len(pairs))]
    shared = {name: _load(variable, members[0].compute) for name, variable in memory.model.items()}
    for indices in together:
        leaves = [_arrays(optimizer, members[i], *pairs[i]) | shared for i in indices]
        numbers = [schedule.scalars(members[i]) for i in indices]
        program = members[indices[0]].program
        new = run(program, WAIST, leaves, numbers, ["p", *(s.name for s in program.slots)])
        for i, values in zip(indices, new, strict=True):
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
            rate = number(ops.convert_to_tensor(rate), member.compute)
        decay = self._optimizer.weight_decay if decays else 0.0
        return self._optimizer.rule.revalued({"learning_rate": rate, "weight_decay": decay or 0.0}).route(member.leaf)

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


def dense(gradient: Any, member: Member) -> Any:
    """A gradient with an entry for every element; rows that occur twice in a sparse one are summed."""
    if hasattr(gradient, "values") and hasattr(gradient, "indices") and hasattr(gradient, "dense_shape"):
        import tensorflow

        values = ops.cast(gradient.values, member.compute)
        return tensorflow.math.unsorted_segment_sum(values, gradient.indices, member.leaf.shape[0])
    return ops.convert_to_tensor(gradient, sparse=False)


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
