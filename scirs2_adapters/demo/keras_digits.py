"""Keras on TensorFlow: `compile` and `train_on_batch`, in a graph."""

from __future__ import annotations

import contextlib

import keras
import numpy as np

from scirs2_adapters import tf as ours
from scirs2_adapters.adapters.tf.argument_names import KERAS, spelling
from scirs2_adapters.core.registry import get

from .adapter import DigitsAdapter, Learn, Parameters, Step
from .data import SIZES


class Adapter(DigitsAdapter):
    """A `keras.Sequential` of dense layers."""

    COUNTERPARTS = {"adamw": "keras.optimizers.AdamW", "lion": "keras.optimizers.Lion"}

    def trainer(self, optimizer: str, kind: str) -> tuple[Learn, Parameters]:
        model = self.model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=self._optimizer(optimizer, kind), loss=loss)

        def learn(x: np.ndarray, y: np.ndarray) -> float:
            model.reset_metrics()  # else Keras reports the mean of all batches so far
            return float(model.train_on_batch(x, y))

        def parameters() -> list[np.ndarray]:
            averages = getattr(model.optimizer, "evaluation_weights", contextlib.nullcontext)
            with averages():
                weights: list[np.ndarray] = model.get_weights()
                return weights

        return learn, parameters

    def stepper(self, optimizer: str, kind: str) -> Step:
        import tensorflow as tf

        variables = self.model().trainable_variables
        stepper = self._optimizer(optimizer, kind)
        stepper.build(variables)
        grads = [tf.constant(g) for g in self.gradients]

        @tf.function
        def one() -> None:
            stepper.apply(grads, variables)

        return one

    def model(self) -> keras.Model:
        """The perceptron with its first weights."""
        hidden = [keras.layers.Dense(size, activation="tanh") for size in SIZES[1:-1]]
        model = keras.Sequential([keras.Input((SIZES[0],)), *hidden, keras.layers.Dense(SIZES[-1])])
        model.set_weights([np.array(p) for p in self.digits.initial])
        return model

    def _optimizer(self, optimizer: str, kind: str) -> keras.optimizers.Optimizer:
        cls = getattr(keras.optimizers if kind == "own" else ours, spelling(get(optimizer)))
        return cls(**self.settings.words(optimizer, KERAS))


def step_once(kernel: str) -> None:
    """One step of our AdamW on this path."""
    ours.AdamW(kernel=kernel).apply([keras.ops.ones(8)], [keras.Variable(np.ones(8, "float32"))])
