#!/usr/bin/env bash
# keras 3.15.1, tensorflow 2.21.0: under a MirroredStrategy `LossScaleOptimizer` looks at the first replica's gradients alone.
# Seen: a NaN gradient on replica 0 leaves the weights as they are, as loss scaling promises; the same on replica 1 makes the
# weights of both replicas NaN. Loss scaling is what `mixed_float16` puts around every optimizer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0
"$folder/venv/bin/python" - <<'PYTHON'
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def weights(bad_replica: int) -> list[float]:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        x = tf.Variable([1.0, 1.0])
        optimizer = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1.0)
        optimizer.build([x])

    @tf.function
    def step() -> None:
        def one() -> None:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradient = tf.where(replica == bad_replica, np.nan, 1.0) * tf.ones(2)
            optimizer.apply([gradient], [x])

        strategy.run(one)

    step()
    return [float(v) for v in strategy.experimental_local_results(x)[0].numpy()]


print(f"keras {keras.__version__}, tensorflow {tf.__version__}")
seen = {bad: weights(bad) for bad in (0, 1)}
for bad, after in seen.items():
    print(f"NaN gradient on replica {bad}: weights afterwards {after}")
assert (keras.__version__, tf.__version__) == ("3.15.1", "2.21.0")
assert seen[0] == [1.0, 1.0]
assert all(np.isnan(seen[1]))
print("as seen before: only the first replica's gradient is looked at")
PYTHON
