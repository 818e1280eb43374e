"""What the tests of files of Keras optimizers share: a small model whose steps are given."""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

RNG = np.random.default_rng(5)
STEPS = 4


def model_of(optimizer: keras.Optimizer, names: tuple[str, ...] = ("one", "two"), build: bool = True) -> keras.Model:
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(3, "tanh", name=name) for name in names]
    model = keras.Sequential([keras.Input((3,)), *layers], name="digits")
    model.compile(optimizer, loss="mse")
    if build:
        optimizer.build(model.trainable_variables)
    return model


GRADS = [[RNG.normal(0.3, size=s).astype("float32") for s in ((3, 3), (3,)) * 2] for _ in range(3 * STEPS)]


def walk(model: keras.Model, first: int = 0, count: int = STEPS) -> None:
    xs = model.trainable_variables
    for gs in GRADS[first : first + count]:
        model.optimizer.apply([ops.convert_to_tensor(g) for g in gs], xs)


def held(optimizer: keras.Optimizer) -> list[np.ndarray]:
    return [np.array(ops.convert_to_numpy(v)) for v in optimizer.variables]


def weights(model: keras.Model) -> np.ndarray:
    return np.concatenate([np.ravel(w) for w in model.get_weights()]).astype(float)
