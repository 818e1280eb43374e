"""Keras on TensorFlow: a training loop of one's own, with a GradientTape in a `tf.function`.

Run it with `KERAS_BACKEND=tensorflow python examples/keras_loop.py`.
"""

import keras
import tensorflow as tf
from sklearn.datasets import load_digits

from scirs2_adapters.tf import Lion


def main(epochs: int = 10) -> tuple[float, float]:
    """The mean loss of the first and of the last epoch."""
    images, digits = load_digits(return_X_y=True)
    data = tf.data.Dataset.from_tensor_slices(((images / 16).astype("float32"), digits)).shuffle(1797, seed=0)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = Lion(1e-3, weight_decay=0.1)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return value

    means = [sum(float(step(x, y)) for x, y in data.batch(100)) / 18 for _ in range(epochs)]
    return means[0], means[-1]


if __name__ == "__main__":
    print("loss {:.3f}, then {:.3f}".format(*main()))
