"""Keras on TensorFlow: `compile` and `train_on_batch`, in a graph."""

from __future__ import annotations

import keras
import numpy as np

from scirs2_adapters.adapters.tf.argument_names import KERAS
from scirs2_adapters.tf import AdamW, Lion

from .adapter import DigitsAdapter, Learn, Parameters, Step
from .data import SIZES, hyper


class Adapter(DigitsAdapter):
    """A `keras.Sequential` of dense layers."""

    COUNTERPARTS = {"adamw": "keras.optimizers.AdamW", "lion": "keras.optimizers.Lion"}

    def trainer(self, optimizer: str, kind: str) -> tuple[Learn, Parameters]:
        model = self._model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=self._optimizer(optimizer, kind), loss=loss)

        def learn(x: np.ndarray, y: np.ndarray) -> float:
            model.reset_metrics()  # else Keras reports the mean of all batches so far
            return float(model.train_on_batch(x, y))

        return learn, model.get_weights

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
