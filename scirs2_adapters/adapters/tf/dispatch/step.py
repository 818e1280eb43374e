"""Who steps what: every variable is stepped by the traced executor, and all of them together.

One step is taken for all variables together, so that coefficients are computed once and a rule that sums over the model
sees all of it. Under a TensorFlow strategy the step runs inside `extended.update`, once on each replica, with the
gradients already summed.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras

from scirs2_adapters.core.step.plan import choose_paths

from ..executors import traced
from ..executors.gradients import is_traced
from ..executors.traced import Update
from ..ops import Tensor
from ..state import RuleState, raw
from ..state.keras_types import KerasVariable, Strategy
from .coefficients import coefficients

KERNEL_OBSTACLE = "Keras optimizers run the framework's own operations only"
Pair = tuple[Tensor, KerasVariable]


def step(optimizer: RuleState, pairs: Sequence[Pair], learning_rate: Tensor) -> None:
    """One step of these (gradient, variable) pairs."""
    memory = optimizer.memory
    assert memory is not None
    choose_paths(type(optimizer).__name__, [optimizer.kernel], [KERNEL_OBSTACLE], one_path=True)
    if not optimizer._traced and any(is_traced(gradient) for gradient, _ in pairs):
        optimizer._traced = True
    places = [optimizer._get_variable_index(variable) for _, variable in pairs]
    entries = [entry for entry in (memory.entries[place] for place in places) if entry]
    rows = coefficients(optimizer, entries, learning_rate)
    updates = [Update(entry, *pair, row) for entry, pair, row in zip(entries, pairs, rows, strict=True)]
    for together in [updates] if memory.model else [[update] for update in updates]:
        traced.step(optimizer, together, memory.model)


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
