#!/usr/bin/env bash
# keras 3.15.1, tensorflow 2.21.0: `clipnorm` takes the norm of IndexedSlices before rows that occur twice are added up.
# Seen: with clipnorm=1.0 a step by an embedding's gradient in which one row occurs twice has the norm 1.29; the same gradient
# given dense has 1.0. A token that repeats in a batch is enough.
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


def step(gradient: object) -> np.ndarray:
    variable = keras.Variable(np.zeros((3, 2), np.float32))
    keras.optimizers.SGD(1.0, clipnorm=1.0).apply([gradient], [variable])
    return -np.asarray(variable)


rows, places = tf.constant([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), [2, 0, 2]
sparse = tf.IndexedSlices(rows, tf.constant(places), tf.constant([3, 2]))
dense = tf.convert_to_tensor(sparse)
of_slices, of_dense = step(sparse), step(dense)
print(f"keras {keras.__version__}, tensorflow {tf.__version__}")
print(f"norm of the step, the gradient given dense:           {np.linalg.norm(of_dense):.4f}")
print(f"norm of the step, the same gradient given as slices:  {np.linalg.norm(of_slices):.4f}")
assert (keras.__version__, tf.__version__) == ("3.15.1", "2.21.0")
assert abs(np.linalg.norm(of_dense) - 1) < 1e-6
assert abs(np.linalg.norm(of_slices) - (5 / 3) ** 0.5) < 1e-6
print("as seen before: the norm is taken before rows that occur twice are added up, so the step exceeds clipnorm")
PYTHON
