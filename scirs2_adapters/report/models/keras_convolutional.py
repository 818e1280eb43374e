"""A convolutional network in Keras."""

from __future__ import annotations

import keras

from scirs2_adapters.demo import keras_digits
from scirs2_adapters.demo.data import SIZES


class Adapter(keras_digits.Adapter):
    """The same first weights for each optimizer."""

    def model(self) -> keras.Model:
        keras.utils.set_random_seed(self.settings.seed)
        layers = [
            keras.Input((SIZES[0],)),
            keras.layers.Reshape((8, 8, 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(SIZES[-1]),
        ]
        return keras.Sequential(layers)
