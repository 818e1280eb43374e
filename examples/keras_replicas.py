"""Keras on TensorFlow: a `MirroredStrategy` trains on several devices at once; here they are two parts of the CPU.

Run it with `KERAS_BACKEND=tensorflow python examples/keras_replicas.py`.
"""

import keras
import tensorflow as tf
from sklearn.datasets import load_digits

from scirs2_adapters.tf import AdamW


def main(epochs: int = 4) -> list[float]:
    """The loss of each epoch."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    images, digits = load_digits(return_X_y=True)
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(AdamW(5e-3), loss, jit_compile=False)
    history = model.fit((images / 16).astype("float32"), digits, batch_size=100, epochs=epochs, verbose=0)
    for variable in model.trainable_variables:  # every replica has taken the same steps
        first, second = strategy.experimental_local_results(variable.value)
        tf.debugging.assert_equal(first, second)
    return [float(x) for x in history.history["loss"]]


if __name__ == "__main__":
    losses = main()
    print(f"loss {losses[0]:.3f}, then {losses[-1]:.3f}")
