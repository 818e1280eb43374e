"""Keras: a bfloat16 network learns scikit-learn's digits with 8-bit state; the line that asks for it is marked.

Run it with `python examples/int8_keras.py`, and with another backend by `KERAS_BACKEND=jax`.
"""

import keras
from sklearn.datasets import load_digits

from scirs2_adapters.tf import AdamW


def main(epochs: int = 25) -> float:
    """The accuracy on images that were not trained on."""
    images, digits = load_digits(return_X_y=True)
    x = (images / 16).astype("float32")
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("bfloat16")
    layers = [keras.layers.Dense(256, activation="relu"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((64,)), *layers])
    optimizer = AdamW(2e-3, state_dtype="int8", rounding="compensated")  # <- this one
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    print(optimizer.memory(model.trainable_variables))
    model.fit(x[:1200], digits[:1200], batch_size=128, epochs=epochs, verbose=0)
    return float(model.evaluate(x[1200:], digits[1200:], verbose=0)[1])


if __name__ == "__main__":
    print(f"accuracy {main():.3f}")
