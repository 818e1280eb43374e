"""What the tests of the Keras adapter share: a small problem, the core as oracle, a network. Any Keras backend."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import ops

import scirs2_adapters as s2
from scirs2_adapters import tf as adapter
from scirs2_adapters.core import HostOptimizer

#: Keras reads its torch tensors and variables in a way that numpy 2 deprecates.
KERAS_READS = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHAPES = ((4, 3), (3,), (), (2, 3, 4), (0, 2))
RNG = np.random.default_rng(0)
PARAMS = [RNG.normal(size=s).astype("float32") for s in SHAPES]
GRADS = [[RNG.normal(0.5, size=s).astype("float32") for s in SHAPES] for _ in range(8)]
RATE = 2.0**-6
NAMES = s2.names()
#: Keras' ScheduleFreeAdamW takes one of its two sequences after it has written to it, but for JAX: the tests of files
#: and dtypes compare with it there alone, and `test_tf_classes` in a process of its own.
UNLIKE_KERAS = () if keras.backend.backend() == "jax" else ("schedulefreeadamw",)
#: Those whose `match="keras"` is what Keras' own class does on this backend.
MATCHING = [n for n in NAMES if "keras" in s2.get(n).matches and n not in UNLIKE_KERAS]

Arrays = list[np.ndarray]


def keras_class(name: str) -> type:
    return getattr(adapter, s2.get(name).__name__)


def variables(dtype: str = "float32", **options: object) -> list[keras.Variable]:
    return [keras.Variable(p, dtype=dtype, name=f"p{i}", **options) for i, p in enumerate(PARAMS)]


def values(xs: list[keras.Variable]) -> Arrays:
    """Copies, in float64."""
    return [np.array(ops.convert_to_numpy(x), dtype=float) for x in xs]


def apply(optimizer: keras.Optimizer, xs: list[keras.Variable], grads: list[Arrays] = GRADS) -> Arrays:
    for gs in grads:
        optimizer.apply([ops.convert_to_tensor(g, dtype=x.dtype) for g, x in zip(gs, xs, strict=True)], xs)
    return values(xs)


def apply_stateless(optimizer: keras.Optimizer, xs: list[keras.Variable], grads: list[Arrays] = GRADS) -> Arrays:
    """As a training loop on JAX steps: values in, values out."""
    for gs in grads:
        new = optimizer.stateless_apply(
            [v.value for v in optimizer.variables], [ops.convert_to_tensor(g) for g in gs], [x.value for x in xs]
        )
        for variable, value in zip([*xs, *optimizer.variables], [*new[0], *new[1]], strict=True):
            variable.assign(value)
    return values(xs)


def oracle(
    rule: object, grads: list[Arrays] = GRADS, each: Callable[[HostOptimizer, int], None] | None = None
) -> Arrays:
    """Where the core's plain numpy goes in float64; `each` is called before each step."""
    xs = [p.astype(float) for p in PARAMS]
    host = HostOptimizer(rule, xs, kernel="traced", layout="inputs_first")
    for i, gs in enumerate(grads):
        if each:
            each(host, i)
        host.step([np.asarray(g, float) for g in gs])
    return xs


def close(seen: Arrays, expected: Arrays, tolerance: float = 3e-5) -> None:
    """Raise unless the distance is within this part of the path: float32 storage over so few steps is worth 1e-5."""
    off = sum(float(np.sum((a - b) ** 2)) for a, b in zip(seen, expected, strict=True)) ** 0.5
    path = sum(float(np.sum((p - b) ** 2)) for p, b in zip(PARAMS, expected, strict=False)) ** 0.5
    assert off <= tolerance * path, f"{off / path:.1e} of the path"


#: TensorFlow without XLA, which takes seconds to compile.
JIT = "auto" if keras.backend.backend() == "jax" else False


def network(optimizer: object, jit: object = JIT) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A compiled model and data."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse", jit_compile=jit)
    x = np.random.default_rng(2).normal(size=(64, 6)).astype("float32")
    return model, x, x[:, :1] * 2 - x[:, 1:2]


def fit(model: keras.Model, x: np.ndarray, y: np.ndarray, epochs: int = 2) -> list[float]:
    return model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0).history["loss"]
