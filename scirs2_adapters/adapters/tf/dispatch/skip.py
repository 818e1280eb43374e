"""`skip_nonfinite`: a step with a gradient that is not finite changes nothing at all, and is counted.

The base class clips, decays, accumulates and averages inside `apply`, so `apply` runs completely or not at all. On
JAX, where a branch may not assign, it always runs and is then undone value by value. Under a TensorFlow strategy the
replicas decide together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
from keras import ops

from ..executors.gradients import dense, is_slices
from ..ops import Tensor
from ..state import RuleState
from ..state.keras_types import KerasVariable, Strategy
from .step import distributed

Grads = Sequence[Tensor]
#: The variables as `apply` was given them; None means those that the optimizer was built with.
Variables = Sequence[KerasVariable] | None
Proceed = Callable[[Grads, Variables], None]


def apply(optimizer: RuleState, proceed: Proceed, grads: Grads, variables: Variables) -> None:
    """Proceed with these gradients if all are finite, else count."""
    if keras.backend.backend() == "jax":
        _step_and_undo(optimizer, proceed, grads, variables)
    elif distributed():
        _agree(optimizer, proceed, grads, variables)
    else:
        _choose(optimizer, finite(optimizer, grads, variables), lambda: proceed(grads, variables))


def finite(optimizer: RuleState, grads: Grads, variables: Variables) -> Tensor:
    """Whether every number that a step would use is finite: gradients, what they are accumulated to, and the squares
    that a clipping norm is made of.
    """
    variables = optimizer._trainable_variables if variables is None else variables
    used = [_used(optimizer, g, v) for g, v in zip(grads, variables, strict=True) if g is not None]
    answers = [ops.all(ops.isfinite(x)) for x in used]
    if optimizer.clipnorm or optimizer.global_clipnorm:
        squares = [ops.sum(ops.square(x)) for x in used]
        answers += [ops.isfinite(s) for s in squares]
        if optimizer.global_clipnorm:
            answers.append(ops.isfinite(functools.reduce(ops.add, squares)))
    return ops.all(ops.stack(answers)) if answers else ops.convert_to_tensor(True)


def _used(optimizer: RuleState, gradient: Tensor, variable: KerasVariable) -> Tensor:
    """A gradient as it goes into the step, or into the accumulator."""
    place = optimizer._get_variable_index(variable)
    entry = optimizer.memory.entries[place] if optimizer.memory else None
    if entry is None:  # it overwrites its variable
        return ops.convert_to_tensor(gradient)
    sums = optimizer._accumulated_gradients if optimizer.gradient_accumulation_steps else None
    if is_slices(gradient) and sums is None and not (optimizer.clipnorm or optimizer.global_clipnorm):
        gradient = gradient.values
    elif is_slices(gradient):
        gradient = ops.cast(dense(gradient, entry), gradient.dtype)
    scale = optimizer.loss_scale_factor
    gradient = gradient if scale is None else gradient / scale
    if sums is None:
        return gradient
    return (gradient + sums[place]) / optimizer.gradient_accumulation_steps


def _count(optimizer: RuleState) -> None:
    optimizer.skipped_steps.assign(optimizer.skipped_steps + 1)


def _choose(optimizer: RuleState, go: Tensor, proceed: Callable[[], None]) -> None:
    ops.cond(go, proceed, lambda: _count(optimizer))


def _step_and_undo(optimizer: RuleState, proceed: Proceed, grads: Grads, variables: Variables) -> None:
    """Step, then give every variable its old value back where the step was not to be taken."""
    go = finite(optimizer, grads, variables)
    touched = [*optimizer._trainable_variables, *optimizer.variables]
    before = [v.value for v in touched]
    proceed(grads, variables)
    for variable, old in zip(touched, before, strict=True):
        variable.assign(ops.where(go, variable.value, old))
    skipped = optimizer.skipped_steps
    skipped.assign(skipped.value + ops.cast(ops.logical_not(go), skipped.dtype))


def _agree(optimizer: RuleState, proceed: Proceed, grads: Grads, variables: Variables) -> None:
    """A gradient of any replica decides for all. A branch that merges replicas must be entered by all at once."""
    import tensorflow

    def merged(strategy: Strategy, grads: Grads, variables: Variables) -> None:
        extended = strategy.extended
        answers = extended.call_for_each_replica(lambda gs, vs: finite(optimizer, gs, vs), args=(grads, variables))
        go = tensorflow.reduce_all(tensorflow.stack(strategy.experimental_local_results(answers)))
        _choose(optimizer, go, lambda: extended.call_for_each_replica(proceed, args=(grads, variables)))

    context = tensorflow.distribute.get_replica_context()
    if tensorflow.__internal__.distribute.strategy_supports_no_merge_call():
        bad = ops.cast(ops.logical_not(finite(optimizer, grads, variables)), "int32")
        total = context.all_reduce(tensorflow.distribute.ReduceOp.SUM, bad)
        _choose(optimizer, ops.equal(total, 0), lambda: proceed(grads, variables))
    else:
        context.merge_call(merged, args=(grads, variables))
