"""Who steps what: a variable by the CPU kernel where the backend lets it run, else by the traced executor.

One step is taken for all variables together, so that coefficients are computed once and a rule that sums over the model
sees all of it. Under a TensorFlow strategy the step runs inside `extended.update`, once on each replica, with the
gradients already summed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
from keras import ops

from scirs2_adapters.core.step.plan import choose_paths

from . import gradients
from .executors import coefficients, traced
from .executors.host import host_path, unavailable
from .ops import Tensor
from .state import RuleState, raw
from .state.keras_types import KerasVariable, Strategy

Pair = tuple[Tensor, KerasVariable]
Grads = Sequence[Tensor]
#: The variables that `apply` was called with; None means those that the optimizer was built with.
Variables = Sequence[KerasVariable] | None
Proceed = Callable[[Grads, Variables], None]


def step(optimizer: RuleState, pairs: Sequence[Pair], learning_rate: Tensor) -> None:
    """One step of these (gradient, variable) pairs."""
    memory = optimizer.slots
    assert memory is not None
    if memory.again is not None and memory.again(optimizer, pairs, learning_rate):
        return
    if not optimizer._traced and any(gradients.is_traced(gradient) for gradient, _ in pairs):
        optimizer._traced = True
    places = [optimizer._get_variable_index(variable) for _, variable in pairs]
    entries = [entry for entry in (memory.entries[place] for place in places) if entry]
    updates = [traced.Update(entry, *pair) for entry, pair in zip(entries, pairs, strict=True)]
    on_host = _on_host(optimizer, updates, one_path=memory.together)
    by_kernel = [update for update, host in zip(updates, on_host, strict=True) if host]
    if by_kernel and (path := host_path()):
        path.step(optimizer, by_kernel, learning_rate, memory.model)
    others = [update for update, host in zip(updates, on_host, strict=True) if not host]
    if others and _as_graph(others):
        from .executors import tensorflow_eager

        tensorflow_eager.step(optimizer, others, learning_rate, _step_traced)
    elif others:
        _step_traced(optimizer, coefficients.as_tensors(optimizer, others, learning_rate))


def _step_traced(optimizer: RuleState, updates: Sequence[traced.Update]) -> None:
    memory = optimizer.slots
    assert memory is not None
    for together in [list(updates)] if memory.together else [[update] for update in updates]:
        traced.step(optimizer, together, memory.model)


def _as_graph(updates: Sequence[traced.Update]) -> bool:
    """Whether an eager step is worth compiling as a graph."""
    if keras.backend.backend() != "tensorflow" or distributed():
        return False
    from .executors import tensorflow_eager

    return tensorflow_eager.takes(updates)


def _on_host(optimizer: RuleState, updates: Sequence[traced.Update], one_path: bool) -> list[bool]:
    """For each variable whether the CPU kernel steps it."""
    path, reason = host_path(), unavailable()
    if distributed():
        reason = reason or "a TensorFlow strategy steps each replica"
    if len({id(update.entry) for update in updates}) < len(updates):
        reason = reason or "a variable is given twice"
    obstacles = [reason] * len(updates)
    if path is not None and reason is None and optimizer.kernel != "traced":
        obstacles = path.obstacles(optimizer, updates)
    kernels = [optimizer.kernel] * len(updates)
    return choose_paths(type(optimizer).__name__, kernels, obstacles, one_path)


def distributed() -> bool:
    """Whether a TensorFlow strategy keeps a variable in several places."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow

    return tensorflow.distribute.has_strategy()


def step_together(optimizer: RuleState, pairs: Sequence[Pair], learning_rate: Tensor) -> None:
    """One step under a strategy of a rule that sums over the whole model."""
    import tensorflow

    def merged(strategy: Strategy, pairs: Sequence[Pair], learning_rate: Tensor) -> None:
        gradients, variables = zip(*pairs, strict=True)

        def local(first: Tensor, gradients: Tensor, variables: Tensor, learning_rate: Tensor) -> None:
            del first
            step(optimizer, list(zip(gradients, variables, strict=True)), learning_rate)

        strategy.extended.update(variables[0], local, args=(gradients, variables, learning_rate), group=False)

    summed = optimizer._all_reduce_sum_gradients([(gradient, raw(variable)) for gradient, variable in pairs])
    context = tensorflow.distribute.get_replica_context()
    if context is None:
        merged(optimizer._distribution_strategy, summed, learning_rate)
    else:
        context.merge_call(merged, args=(summed, learning_rate))


def apply_if_finite(optimizer: RuleState, proceed: Proceed, grads: Grads, variables: Variables) -> None:
    """`skip_nonfinite`: proceed with these gradients if all are finite, else change nothing at all, and count.

    The base class clips, decays, accumulates and averages inside `apply`, so `apply` runs completely or not at all. On
    JAX, where a branch may not assign, it always runs and is then undone value by value. Under a TensorFlow strategy
    the replicas decide together.
    """
    if keras.backend.backend() == "jax":
        _step_and_undo(optimizer, proceed, grads, variables)
    elif distributed():
        _agree(optimizer, proceed, grads, variables)
    else:
        _choose(optimizer, _finite(optimizer, grads, variables), lambda: proceed(grads, variables))


def _finite(optimizer: RuleState, grads: Grads, variables: Variables) -> Tensor:
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
    entry = optimizer.slots.entries[place] if optimizer.slots else None
    if entry is None:  # it overwrites its variable
        return ops.convert_to_tensor(gradient)
    sums = optimizer._accumulated_gradients if optimizer.gradient_accumulation_steps else None
    if gradients.is_slices(gradient) and sums is None:
        norm = optimizer.clipnorm or optimizer.global_clipnorm
        gradient = (gradients.merged(gradient) if norm else gradient).values
    elif gradients.is_slices(gradient):
        gradient = ops.cast(gradients.dense(gradient, entry), gradient.dtype)
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
    go = _finite(optimizer, grads, variables)
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
        answers = extended.call_for_each_replica(lambda gs, vs: _finite(optimizer, gs, vs), args=(grads, variables))
        go = tensorflow.reduce_all(tensorflow.stack(strategy.experimental_local_results(answers)))
        _choose(optimizer, go, lambda: extended.call_for_each_replica(proceed, args=(grads, variables)))

    context = tensorflow.distribute.get_replica_context()
    if tensorflow.__internal__.distribute.strategy_supports_no_merge_call():
        bad = ops.cast(ops.logical_not(_finite(optimizer, grads, variables)), "int32")
        total = context.all_reduce(tensorflow.distribute.ReduceOp.SUM, bad)
        _choose(optimizer, ops.equal(total, 0), lambda: proceed(grads, variables))
    else:
        context.merge_call(merged, args=(grads, variables))
