"""Keras: training begins under one backend and goes on under another, from a `.keras` file.

Run it twice: `KERAS_BACKEND=tensorflow python examples/keras_two_backends.py begin digits.keras`, which also trains on
itself to show where that leads, then `KERAS_BACKEND=jax python examples/keras_two_backends.py continue digits.keras`.
"""

import sys

import keras
from sklearn.datasets import load_digits

from scirs2_adapters.tf import AdamW


def begun() -> keras.Model:
    """A model that no step was taken with."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "tanh"), keras.layers.Dense(10)])
    rate = keras.optimizers.schedules.CosineDecay(1e-2, decay_steps=72)
    model.compile(AdamW(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def losses(model: keras.Model, epochs: int = 2) -> list[float]:
    """The losses of so many epochs more."""
    images, digits = load_digits(return_X_y=True)
    x = (images / 16).astype("float32")
    return model.fit(x, digits, batch_size=100, epochs=epochs, shuffle=False, verbose=0).history["loss"]


def main(what: str, path: str) -> list[float]:
    """The losses of the second half."""
    if what == "begin":
        model = begun()
        losses(model)
        model.save(path)
    else:
        model = keras.models.load_model(path)
    return losses(model)


if __name__ == "__main__":
    print(*(f"{loss:.6f}" for loss in main(*sys.argv[1:])))
