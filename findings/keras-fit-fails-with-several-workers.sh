#!/usr/bin/env bash
# keras 3.15.1, tensorflow 2.21.0: `model.fit` under a `MultiWorkerMirroredStrategy` fails before the first step.
# Seen: with one process that is the whole cluster of its `TF_CONFIG`, `fit` trains; with two, both raise a ValueError: Keras takes
# the values of the replicas for one, "Attempt to convert a value (PerReplica". A loop with `strategy.run` trains.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0
cat >"$folder/worker.py" <<'PYTHON'
import faulthandler

faulthandler.dump_traceback_later(120, exit=True)
import keras
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
data = tf.data.Dataset.from_tensor_slices((tf.ones((8, 4)), tf.ones((8, 1)))).batch(4)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
try:
    model.fit(data.with_options(options), verbose=0)
    print("trained")
except ValueError as error:
    print(str(error).splitlines()[0][:43])
PYTHON
"$folder/venv/bin/python" - "$folder/worker.py" <<'PYTHON'
import json
import os
import socket
import subprocess
import sys
from importlib.metadata import version


def seen(workers: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    cluster = {"worker": [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]}
    for s in sockets:
        s.close()
    started = []
    for index in range(workers):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        variables = {**os.environ, "TF_CONFIG": config, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, sys.argv[1]]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=variables))
    return [process.communicate()[0].strip() for process in started]


print("keras", version("keras"), "tensorflow", version("tensorflow"))
found = {workers: seen(workers) for workers in (1, 2)}
print(found)
assert version("keras") == "3.15.1"
assert found[2] == ["Attempt to convert a value (PerReplica:{"[:43]] * 2
PYTHON
