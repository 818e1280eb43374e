"""What the tests of TensorFlow's sparse gradients share: a table, gradients of some of its rows, a walk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

ROWS, WIDTH = 6, 4
START = np.random.default_rng(1).normal(size=(ROWS, WIDTH))
#: Rows of a step, some more than once; of one step none, of another all.
STEPS = [[2, 0, 2, 2], [1], [], [5, 4, 3, 2, 1, 0, 0], [0, 2]]
#: Those whose rows are stepped as a small variable.
GATHERED = ["sgd", "adagrad", "sparseadam"]


def slices(t: int, shape: tuple[int, ...] = (ROWS, WIDTH), dtype: Any = "float64") -> tf.IndexedSlices:
    """The gradient of a step."""
    indices = [row for row in STEPS[t % len(STEPS)] if row < shape[0]]
    values = np.random.default_rng(t).normal(size=(len(indices), *shape[1:]))
    parts = (tf.constant(values, dtype), tf.constant(indices, "int32"), tf.constant(shape))
    return tf.IndexedSlices(*parts)


def whole(g: tf.IndexedSlices) -> np.ndarray:
    """The same in full, by numpy."""
    full = np.zeros(tuple(np.array(g.dense_shape)), g.dtype.as_numpy_dtype)
    np.add.at(full, np.array(g.indices), np.array(g.values))
    return full


def numbers(x: Any) -> np.ndarray:
    return np.array(tf.cast(x, "float64"))


def walk(optimizer: Any, change: Callable[[Any], Any], compiled: Any = None, dtype: str = "float32") -> list[Any]:
    """All variables after steps of gradients that are changed by a function."""
    x = keras.Variable(START, dtype=dtype)
    optimizer.build([x])
    step = optimizer.apply if compiled is None else tf.function(optimizer.apply, jit_compile=compiled)
    for t in range(2 * len(STEPS)):
        step([change(slices(t, dtype=dtype))])
    return [numbers(v) for v in (x, *optimizer.variables)]


def as_tensor(g: tf.IndexedSlices) -> tf.Tensor:
    return tf.constant(whole(g))


def alike(one: list[Any], two: list[Any], rtol: float = 2e-5) -> None:
    assert np.abs(one[0] - START).max() > 1e-3
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)
