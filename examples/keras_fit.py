"""Keras: `fit` with a learning rate that warms up and then falls along a cosine, on scikit-learn's digits.

Run it with `python examples/keras_fit.py`, and with another backend by `KERAS_BACKEND=jax`.
"""

import keras
from sklearn.datasets import load_digits

from scirs2_adapters.tf import AdamW

EPOCHS, BATCH = 10, 100


def main() -> list[float]:
    """The loss of each epoch, and at last the accuracy on images that were not trained on."""
    images, digits = load_digits(return_X_y=True)
    x = (images / 16).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
    steps = EPOCHS * 1200 // BATCH
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, decay_steps=steps * 9 // 10, warmup_target=1e-2, warmup_steps=steps // 10
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(AdamW(rate, weight_decay=0.01, clipnorm=1.0), loss, metrics=["accuracy"])
    losses = model.fit(x[:1200], digits[:1200], batch_size=BATCH, epochs=EPOCHS, verbose=0).history["loss"]
    return [*losses, model.evaluate(x[1200:], digits[1200:], verbose=0)[1]]


if __name__ == "__main__":
    *losses, accuracy = main()
    print(f"loss {losses[0]:.3f}, then {losses[-1]:.3f}; accuracy {accuracy:.3f}")
