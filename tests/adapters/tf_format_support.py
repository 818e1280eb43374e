"""What the tests of storage formats in Keras' variables share: the formats, a model of bfloat16 that has slots of 4,096
numbers, and what its memory stands for.
"""

from __future__ import annotations

from typing import Any

import keras
import ml_dtypes
import numpy as np
from keras import ops

from scirs2_adapters.core.cpu import storage

INT8: dict[str, Any] = {"state_dtype": "int8"}
BOTH: dict[str, Any] = {"state_dtype": "int8", "rounding": "compensated"}
FINE: dict[str, Any] = {"state_dtype": {"rounding_error": "int16"}, "rounding": "compensated"}


def number(x: Any) -> np.ndarray:
    """In float64; what numpy carries as uint16 is bfloat16."""
    x = ops.convert_to_numpy(x) if not isinstance(x, np.ndarray) else x
    return np.array(x.view(ml_dtypes.bfloat16) if x.dtype == np.uint16 else x, dtype=float)


def held(optimizer: keras.Optimizer) -> list[np.ndarray]:
    return [number(v) for v in optimizer.variables]


def network(optimizer: Any, dtype: str = "bfloat16", jit: object = "auto", seed: int = 1) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(64, "tanh", dtype=dtype, name="one"), keras.layers.Dense(1, dtype=dtype, name="two")]
    model = keras.Sequential([keras.Input((64,)), *layers])
    jit = False if jit == "auto" and keras.backend.backend() != "jax" else jit
    model.compile(optimizer, loss="mse", jit_compile=jit)
    return model


X = np.random.default_rng(3).normal(size=(64, 64)).astype("float32")


def fit(model: keras.Model, epochs: int = 1) -> list[float]:
    return model.fit(X, X[:, :1] * 2, batch_size=16, epochs=epochs, shuffle=False, verbose=0).history["loss"]


def numbers(optimizer: keras.Optimizer, slot: str) -> np.ndarray:
    """What the first variable's slot stands for."""
    entry = optimizer.slots.entries[0]
    x, other = entry.slots[slot], entry.slots.get(f"{slot}_scale")
    if other is None:
        return number(x)
    codes, scales = (np.array(ops.convert_to_numpy(v)) for v in (x, other))
    return storage.load(codes, x.dtype, scales)
