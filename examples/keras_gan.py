"""Keras on TensorFlow: a generator and a discriminator, each with an optimizer of its own, on scikit-learn's digits.

Run it with `KERAS_BACKEND=tensorflow python examples/keras_gan.py`.
"""

import keras
import tensorflow as tf
from sklearn.datasets import load_digits

from scirs2_adapters.tf import Adam


def network(inputs: int, outputs: int) -> keras.Model:
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(outputs)])


def main(steps: int = 600) -> tuple[float, float]:
    """How far the mean of generated images is from the mean of real ones, before and after."""
    real = tf.constant(load_digits().data / 16, "float32")
    keras.utils.set_random_seed(0)
    generator, discriminator = network(16, 64), network(64, 1)
    of_generator, of_discriminator = Adam(1e-3, beta_1=0.5), Adam(1e-3, beta_1=0.5)
    of_generator.build(generator.trainable_variables)
    of_discriminator.build(discriminator.trainable_variables)
    noise = tf.random.Generator.from_seed(0)

    @tf.function
    def step() -> None:
        batch = tf.gather(real, noise.uniform((64,), 0, len(real), tf.int32))
        with tf.GradientTape(persistent=True) as tape:
            said_of_fake = discriminator(generator(noise.normal((64, 16))))
            fooled = tf.reduce_mean(tf.nn.softplus(-said_of_fake))
            wrong = tf.reduce_mean(tf.nn.softplus(said_of_fake) + tf.nn.softplus(-discriminator(batch)))
        for optimizer, model, loss in ((of_generator, generator, fooled), (of_discriminator, discriminator, wrong)):
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    def distance() -> float:
        made = generator(noise.normal((1000, 16)))
        return float(tf.norm(tf.reduce_mean(made, 0) - tf.reduce_mean(real, 0)))

    before = distance()
    for _ in range(steps):
        step()
    return before, distance()


if __name__ == "__main__":
    print("distance {:.3f}, then {:.3f}".format(*main()))
