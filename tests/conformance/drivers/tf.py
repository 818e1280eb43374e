"""Keras variables, stepped by `apply`; a long walk on TensorFlow is one `tf.function`, as a fit would have it.

A float64 model is one made under Keras' float64 setting: only then does Keras keep the learning rate in float64.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

import scirs2_adapters
from scirs2_adapters import tf as adapter
from scirs2_adapters.adapters.tf.argument_names import KERAS

from ..options import Hyper
from ..problem import Arrays, Problem
from ..walk import State

#: Steps from which tracing a function costs less than it brings.
LONG = 100


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Keras' own setting for models of this dtype."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64" if dtype == "float64" else before)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


def copied(x: object) -> np.ndarray:
    """A variable's value in float64."""
    return np.array(ops.convert_to_numpy(ops.cast(x, "float64")))


class Optimizer:
    """A rule in Keras."""

    def __init__(self, rule: str, hyper: Hyper, path: str, problem: Problem) -> None:
        self.dtype = problem.dtype
        cls = scirs2_adapters.get(rule)
        with precision(self.dtype):
            named = zip(problem.names, problem.params, strict=True)
            self.variables = [keras.Variable(p, dtype=self.dtype, name=name) for name, p in named]
            arguments = KERAS.to_framework(hyper, cls.fields_with())
            self.optimizer = getattr(adapter, cls.__name__)(**arguments, kernel=path)
            self.optimizer.build(self.variables)
        self.apply = lambda gradients: self.optimizer.apply(gradients, self.variables)
        if len(problem.grads) > LONG and keras.backend.backend() == "tensorflow":
            import tensorflow

            self.apply = tensorflow.function(self.apply)

    def step(self, grads: Arrays) -> None:
        with precision(self.dtype):
            self.apply([self.gradient(ops.convert_to_tensor(g, dtype=self.dtype)) for g in grads])

    def gradient(self, g: Any) -> Any:
        """The gradient, with all rows named where the rule steps only those that are: of a dense one, those that are
        not zero. Where there are no slices, a zero is a number that is too small to matter.
        """
        if self.optimizer.rule_class.sparse != "rows" or 0 in g.shape:
            return g
        if keras.backend.backend() != "tensorflow" or len(g.shape) == 0:
            return ops.where(ops.equal(g, 0), ops.full_like(g, 1e-30), g)
        import tensorflow

        return tensorflow.IndexedSlices(g, tensorflow.range(g.shape[0]), tensorflow.constant(g.shape))

    def params(self) -> Arrays:
        return [copied(v) for v in self.variables]

    def state(self) -> State:
        memory = self.optimizer.slots
        leaves = [{name: copied(v) for name, v in member.slots.items()} for member in memory.entries]
        return {"leaves": leaves, "model": {name: copied(v) for name, v in memory.model.items()}}
