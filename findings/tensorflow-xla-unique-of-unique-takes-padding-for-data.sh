#!/usr/bin/env bash
# tensorflow 2.21.0: under XLA the result of `tf.unique` of a result of `tf.unique` is wrong, and no error says so.
# Seen: the distinct numbers of [2, 0, 2, 2, 5, 0] are [2, 0, 5]. Asked for once more, they are the same in a graph; compiled
# by XLA, which pads the first result to the length of its input, the answer has other numbers in it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check tensorflow==2.21.0 numpy==2.4.6
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PYTHON'
import tensorflow as tf


def twice(x):
    return tf.unique(tf.unique(x).y).y


x = tf.constant([2, 0, 2, 2, 5, 0])
graph, compiled = (tf.function(twice, jit_compile=jit)(x).numpy().tolist() for jit in (False, True))
print(f"tensorflow {tf.__version__}: distinct numbers of distinct numbers: {graph} in a graph, {compiled} by XLA")
assert tf.__version__ == "2.21.0"
assert graph == [2, 0, 5]
assert compiled != graph
PYTHON
echo "as seen before: XLA takes the padding of a first tf.unique for data of a second"
