"""Watches an optimizer of Keras'. A step that is compiled calls nobody: a callback looks between the steps of `fit`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

import keras
import numpy as np

from scirs2_adapters.core.monitor.monitor import Finish, Monitor, Sink, around
from scirs2_adapters.core.monitor.record import Seen, group_record, nonfinite

from .gradients import is_slices, is_traced, merged
from .ops import Tensor, as_numpy
from .optimizer.rules import RuleOptimizer
from .state.keras_types import KerasVariable

Optimizer: TypeAlias = keras.optimizers.Optimizer
Variables = Sequence[KerasVariable]
_GROUP = "group 0"


def watch(optimizer: Optimizer, monitor: Monitor) -> Monitor:
    """Record the calls of this optimizer's `apply` that are not compiled."""

    def before(optimizer: Optimizer, grads: Sequence[Tensor], trainable_variables: Variables | None = None) -> None:
        if not any(map(is_traced, grads)):
            variables = optimizer._trainable_variables if trainable_variables is None else trainable_variables
            monitor.before(functools.partial(_begin, optimizer, list(variables), grads))

    def after(optimizer: Optimizer, grads: Sequence[Tensor], trainable_variables: Variables | None = None) -> None:
        if monitor.recording and not any(map(is_traced, grads)):
            _numbers(optimizer._trainable_variables[:1])  # a device is done with a step later than the call of it
            monitor.after()

    return monitor.until(around(optimizer, "apply", (before, after)))


def _begin(optimizer: Optimizer, variables: list[KerasVariable], grads: Sequence[Tensor] | None) -> Finish:
    before, rate = _numbers(variables), float(as_numpy(optimizer.learning_rate))

    def finish() -> Seen:
        gradients = None if grads is None else [_gradient(g) for g in grads if g is not None]
        group = group_record(_GROUP, rate, gradients or [], before, _numbers(variables))
        bad = None if gradients is None else nonfinite(gradients)
        ours = isinstance(optimizer, RuleOptimizer)
        skipped = int(as_numpy(optimizer.skipped_steps)) if ours else 0
        return Seen([group], bad, skipped, optimizer.memory().state_bytes if ours else None)

    return finish


def _numbers(variables: Variables) -> list[np.ndarray]:
    """Copies of what the variables hold."""
    return [np.array(as_numpy(v)) for v in variables]


def _gradient(gradient: Tensor) -> np.ndarray:
    """The numbers of a gradient, each row once."""
    gradient = merged(gradient).values if is_slices(gradient) else gradient
    return as_numpy(gradient)


class OptimizerMonitor(keras.callbacks.Callback):
    """A callback that records what the optimizer of a `fit` does, compiled or not, on every backend.

    It looks at the model before and after a batch, so gradients are not seen, and `seconds` are those of the whole
    batch. With `steps_per_execution` a batch is as many steps. The records are those of `scirs2_adapters.monitor`, in
    `monitor.records`, and go where its arguments say.

    Arguments:
      every: batches from one record to the next, 1 or more
      to: a function that takes a record, or a list of such
      keep: how many records are kept, 1 or more

    Example:
      >>> import keras, numpy as np
      >>> from scirs2_adapters.tf import Lion, OptimizerMonitor
      >>> model = keras.Sequential([keras.layers.Dense(1)])
      >>> model.compile(optimizer=Lion(1e-3), loss="mse")
      >>> watching = OptimizerMonitor(every=2)
      >>> history = model.fit(np.ones((64, 2)), np.ones((64, 1)), batch_size=16, callbacks=[watching], verbose=0)
      >>> [record.step for record in watching.monitor.records]
      [2, 4]
    """

    def __init__(self, every: int = 100, *, to: Sink | Sequence[Sink] = (), keep: int = 1000) -> None:
        super().__init__()
        self.monitor = Monitor("", every, to, keep)

    def on_train_begin(self, logs: object = None) -> None:
        self.monitor.optimizer = type(self.model.optimizer).__name__

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        self.monitor.before(self._begin)

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if self.monitor.recording:
            _numbers(self.model.trainable_variables[:1])  # a device is done with a step later than the call of it
            self.monitor.after()

    def on_train_end(self, logs: object = None) -> None:
        self.set_model(None)  # a fit gives it another time

    def _begin(self) -> Finish:
        model = self.model
        return _begin(model.optimizer, model.trainable_variables, None)
