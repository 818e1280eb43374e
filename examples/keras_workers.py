"""Keras on TensorFlow: two processes train one model with a `MultiWorkerMirroredStrategy`, here both on this machine.

Run it with `KERAS_BACKEND=tensorflow python examples/keras_workers.py`, which starts both. On several machines each
starts its own, with a `TF_CONFIG` of its own. The loop is written out, because `fit` of Keras 3.15 fails there.
"""

import faulthandler
import json
import os
import socket
import subprocess
import sys
import time

WORKERS, SECONDS = 2, 240
EPOCHS, BATCH = 4, 100
OPTIONS = [f"-W{option}" for option in sys.warnoptions]


def worker() -> None:
    """Trains as one of the workers, and prints the loss of each epoch and all weights."""
    import keras
    import numpy as np
    import tensorflow as tf
    from sklearn.datasets import load_digits

    from scirs2_adapters.tf import AdamW

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    images, digits = load_digits(return_X_y=True)
    data = tf.data.Dataset.from_tensor_slices(((images[:1700] / 16).astype("float32"), digits[:1700])).batch(BATCH)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    data = strategy.experimental_distribute_dataset(data.with_options(options))
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
        optimizer = AdamW(5e-3)
        optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")

    def one(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True)) / BATCH  # gradients are summed over the workers
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return value

    @tf.function(autograph=False)
    def step(batch: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(one, args=batch), axis=None)

    losses = [float(np.mean([step(batch) for batch in data])) for _ in range(EPOCHS)]
    print(json.dumps({"losses": losses, "weights": [w.astype("float64").tolist() for w in model.get_weights()]}))


def addresses() -> list[str]:
    """Free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(WORKERS)]
    names = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return names


def main() -> list[dict[str, list[float]]]:
    """What each worker prints; a worker that does not end in time is killed."""
    cluster, end, children = {"worker": addresses()}, time.monotonic() + SECONDS, []
    try:
        for index in range(WORKERS):
            config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
            command, variables = [sys.executable, *OPTIONS, __file__], {**os.environ, "TF_CONFIG": config}
            children.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables))
        printed = [child.communicate(timeout=max(1, end - time.monotonic()))[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    return [json.loads(text.splitlines()[-1]) for text in printed]


if __name__ == "__main__":
    if "TF_CONFIG" in os.environ:
        faulthandler.dump_traceback_later(SECONDS, exit=True)  # if whoever has started it is gone, it ends all the same
        worker()
    else:
        first, second = main()
        assert first["weights"] == second["weights"], "the workers have taken different steps"
        print(f"loss {first['losses'][0]:.3f}, then {first['losses'][-1]:.3f}")
