"""A Keras model built by its first `fit`: on TensorFlow its variables have no values when the slots are made."""

import keras
import numpy as np
import pytest

from scirs2_adapters import get, names
from scirs2_adapters.adapters.tf.optimizer import optimizer

COPYING = [name for name in names() if any(s.initial == "parameter" for s in get(name)().all_slots())]


@pytest.mark.slow
@pytest.mark.parametrize("name", COPYING)
def test_a_copy_of_the_parameters_is_right_although_the_model_is_built_late(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(12, 2)).astype("float32")
    ends = []
    for built in (False, True):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Dense(3, activation="tanh"), keras.layers.Dense(1)])
        if built:
            model.build((None, 2))
        model.compile(optimizer=optimizer(name)(), loss="mse")
        model.fit(x, x.sum(1, keepdims=True), batch_size=4, epochs=2, shuffle=False, verbose=0)
        ends.append([*map(np.array, model.get_weights()), *(v.numpy() for v in model.optimizer.variables)])
    for late, early in zip(*ends, strict=True):  # where slots begin late, no kernel steps, and rounds otherwise
        np.testing.assert_allclose(late, early, rtol=1e-5, atol=1e-7)
