"""Keras optimizers that train other weights than those to evaluate: a block in which the model has the latter."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
from keras import ops

from scirs2_adapters.core.formats import companion
from scirs2_adapters.core.ops import HOST_SCALARS

from ..ops import OPS, Tensor, as_numpy
from ..state import VariableEntry, coded
from ..state.keras_types import KerasVariable
from .rules import RuleOptimizer


class EvaluatingOptimizer(RuleOptimizer):
    """An optimizer of a rule with `evaluation`."""

    _evaluating = False

    @contextlib.contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """A block in which the model has the weights to evaluate, to save or to predict with. At its end the trained
        ones are back, bit for bit. A step inside is an error, and the trained weights come back all the same.

        >>> import keras, numpy as np
        >>> from scirs2_adapters.tf import ScheduleFreeAdamW
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(optimizer=ScheduleFreeAdamW(), loss="mse")
        >>> history = model.fit(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
        >>> with model.optimizer.evaluation_weights():
        ...     loss = model.evaluate(np.ones((4, 2)), np.ones((4, 1)), verbose=0)
        """
        entries = [entry for entry in self.slots.entries if entry] if self.slots and not self._evaluating else []
        trained = [np.array(as_numpy(entry.variable)) for entry in entries]
        count = int(as_numpy(self._iterations))
        for entry, weights in zip(entries, [self._averaged(entry) for entry in entries], strict=True):
            entry.variable.assign(weights)
        outer, self._evaluating = self._evaluating, True
        try:
            yield
        finally:
            self._evaluating = outer
            for entry, kept in zip(entries, trained, strict=True):
                entry.variable.assign(kept)
        if int(as_numpy(self._iterations)) != count:
            raise _step_inside(self)

    def _averaged(self, entry: VariableEntry) -> Tensor:
        """What to evaluate in the place of a variable."""
        rule, count = self._rule.route(entry.leaf), max(1, int(as_numpy(self.iterations)))
        arrays = {"p": entry.variable, **entry.slots}
        names = ["p", *(slot.name for slot in rule.roles("evaluation")[0])]
        numbers = {name: _numbers(name, arrays, entry) for name in names}
        weights = rule.evaluated(OPS, numbers["p"], numbers, rule.scalars(HOST_SCALARS, count))
        return ops.copy(ops.cast(weights, entry.variable.dtype))  # of a slot, which a compiled step gives away

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[KerasVariable] | None = None) -> None:
        """Step the variables; an error inside `evaluation_weights`."""
        if self._evaluating:
            raise _step_inside(self)
        super().apply(grads, trainable_variables)


def _step_inside(optimizer: RuleOptimizer) -> RuntimeError:
    return RuntimeError(
        f"`{type(optimizer).__name__}` steps the weights that are trained, and inside `evaluation_weights()` the model "
        "has those to evaluate. Received: a step. Train outside of the block."
    )


def _numbers(name: str, arrays: dict[str, KerasVariable], entry: VariableEntry) -> Tensor:
    """A variable or slot in the dtype of the arithmetic."""
    storage, x = entry.storages[name], ops.stop_gradient(ops.convert_to_tensor(arrays[name]))
    if (other := companion(name, storage)) is not None:
        x = coded.load(storage, x, ops.convert_to_tensor(arrays[other]))
    return ops.cast(x, entry.compute)
