"""Keras on TensorFlow: `compile` and `fit`, in a graph."""

from __future__ import annotations

import keras
import numpy as np

from scirs2_adapters.adapters.tf.argument_names import KERAS
from scirs2_adapters.tf import AdamW, Lion

from .adapter import DigitsAdapter, Step, Watch
from .data import BATCH, SIZES, hyper


class Adapter(DigitsAdapter):
    """A `keras.Sequential` of dense layers."""

    COUNTERPARTS = {"adamw": "keras.optimizers.AdamW", "lion": "keras.optimizers.Lion"}

    def train(self, optimizer: str, kind: str, watch: Watch) -> tuple[float, float]:
        model = self._model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=self._optimizer(optimizer, kind), loss=loss)

        def report(batch: int, logs: dict[str, float]) -> None:
            """The loss of this batch; Keras would report the mean of all batches so far."""
            del batch
            watch(float(logs["loss"]), model.get_weights)
            model.reset_metrics()

        watch.keep(model.get_weights())
        x, y = self.digits.x.reshape(-1, SIZES[0]), self.digits.y.reshape(-1)
        callback = keras.callbacks.LambdaCallback(on_train_batch_end=report)
        model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[callback])
        watch.keep(model.get_weights())
        return self.digits.score(model.get_weights())

    def stepper(self, optimizer: str, kind: str) -> Step:
        import tensorflow as tf

        variables = self._model().trainable_variables
        stepper = self._optimizer(optimizer, kind)
        stepper.build(variables)
        grads = [tf.constant(g) for g in self.gradients]

        @tf.function
        def one() -> None:
            stepper.apply(grads, variables)

        return one

    def _model(self) -> keras.Model:
        hidden = [keras.layers.Dense(size, activation="tanh") for size in SIZES[1:-1]]
        model = keras.Sequential([keras.Input((SIZES[0],)), *hidden, keras.layers.Dense(SIZES[-1])])
        model.set_weights([np.array(p) for p in self.digits.initial])
        return model

    def _optimizer(self, optimizer: str, kind: str) -> keras.optimizers.Optimizer:
        own = {"adamw": keras.optimizers.AdamW, "lion": keras.optimizers.Lion}
        ours = {"adamw": AdamW, "lion": Lion}
        return (own if kind == "own" else ours)[optimizer](**hyper(optimizer, KERAS))


def step_once(kernel: str) -> None:
    """One step of our AdamW on this path."""
    AdamW(kernel=kernel).apply([keras.ops.ones(8)], [keras.Variable(np.ones(8, "float32"))])
