"""Keras on TensorFlow: an embedding of a million rows, of which a batch has about a thousand, next to a small layer.

Run it with `KERAS_BACKEND=tensorflow python examples/keras_embedding.py`, and with the number of rows behind it for
another table. A step takes time and memory of the rows that the batch has, whatever the number of the others.
"""

import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from scirs2_adapters.tf import Adagrad

WIDTH, BATCH, STEPS = 16, 1000, 200


def resident(name: str) -> float:
    """MiB of this process, now ("VmRSS") or at most ("VmHWM"), where the system is Linux; else 0."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


def main(rows: int = 1_000_000) -> dict[str, float]:
    """The first and the last loss, milliseconds of a step, and the MiB by which steps raise the peak of memory."""
    keras.utils.set_random_seed(0)
    table, head = keras.layers.Embedding(rows, WIDTH), keras.layers.Dense(1)
    model = keras.Sequential([keras.Input((), dtype="int32"), table, head])
    loss, optimizer = keras.losses.MeanSquaredError(), Adagrad(1.0)
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    words = tf.constant(rng.zipf(1.3, 50_000) % rows, "int32")  # a few words are frequent, most are rare
    wanted = tf.constant(np.sin(np.arange(50_000))[words.numpy() % 50_000, None], "float32")

    @tf.function(autograph=False)
    def step(start: tf.Tensor) -> tf.Tensor:
        x, y = words[start : start + BATCH], wanted[start : start + BATCH]
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        assert isinstance(gradients[0], tf.IndexedSlices)
        optimizer.apply(gradients, model.trainable_variables)
        return value

    def walk(count: int) -> list[float]:
        return [float(step(tf.constant(i * BATCH % 50_000))) for i in range(count)]

    first = walk(1)[0]
    before, start = resident("VmRSS"), time.perf_counter()
    losses = walk(STEPS)
    milliseconds = (time.perf_counter() - start) / STEPS * 1000
    return {"first": first, "last": losses[-1], "ms": milliseconds, "MiB": max(0.0, resident("VmHWM") - before)}


if __name__ == "__main__":
    measured = main(*map(int, sys.argv[1:]))
    print("loss {first:.3f}, then {last:.3f}; {ms:.2f} ms a step, {MiB:.1f} MiB more at the peak".format(**measured))
