#!/usr/bin/env bash
# keras 3.15.1, tensorflow 2.21.0: the first step of `keras.optimizers.Ftrl`, and of the operation ResourceApplyFtrlV2, draws
# the initial weights towards 0, because the sums of squares begin at 0.1 and the linear sums at 0 as if the weights did.
# Seen: a weight of 1 whose first gradient is 0 becomes 0; with a gradient of 0.1 it becomes 0.046. With the paper's
# initial_accumulator_value=0 it is 0.999, and NaN where the gradient is 0.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0
"$folder/venv/bin/python" - <<'PYTHON'
import os

os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "tensorflow", "3"
import keras
import numpy as np
import tensorflow as tf

gradient = tf.constant([0.0, 0.1])


def first_step(initial: float) -> np.ndarray:
    variable = keras.Variable(np.ones(2, "float32"))
    optimizer = keras.optimizers.Ftrl(0.001, initial_accumulator_value=initial)
    optimizer.build([variable])
    optimizer.apply([gradient], [variable])
    return variable.numpy()


def operation(initial: float) -> np.ndarray:
    p, n, z = tf.Variable([1.0, 1.0]), tf.Variable([initial, initial]), tf.Variable([0.0, 0.0])
    tf.raw_ops.ResourceApplyFtrlV2(
        var=p.handle, accum=n.handle, linear=z.handle, grad=gradient, lr=0.001, l1=0.0, l2=0.0, l2_shrinkage=0.0, lr_power=-0.5
    )
    return p.numpy()


print(f"keras {keras.__version__}: {first_step(0.1)} from [1, 1], the operation {operation(0.1)}; from 0: {first_step(0.0)}")
assert keras.__version__ == "3.15.1"
assert first_step(0.1)[0] == operation(0.1)[0] == 0
assert 0 < first_step(0.1)[1] < 0.1
assert np.isnan(first_step(0.0)[0])
assert abs(first_step(0.0)[1] - 0.999) < 1e-4
print("as seen before: the weights that a layer was initialized with are lost in the first step")
PYTHON
