#!/usr/bin/env bash
# keras 3.15.1: `keras.optimizers.Adafactor(relative_step=False)` changes nothing: `update_step` bounds the learning rate by
# 1 / sqrt(t) once more, whatever the argument says.
# Seen: with a learning rate of 0.9 the parameters are the same to the last bit after ten steps, with and without.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 torch==2.13.0
"$folder/venv/bin/python" - <<'PYTHON'
import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
import numpy as np


def walk(relative_step: bool) -> np.ndarray:
    variable = keras.Variable(np.linspace(-1, 1, 6, dtype="float32"))
    optimizer = keras.optimizers.Adafactor(0.9, relative_step=relative_step)
    optimizer.build([variable])
    for t in range(10):
        optimizer.apply([keras.ops.convert_to_tensor(np.cos(np.arange(6) + t).astype("float32"))], [variable])
    return keras.ops.convert_to_numpy(variable)


print(f"keras {keras.__version__}: {walk(True)[:2]} with relative_step, {walk(False)[:2]} without")
assert keras.__version__ == "3.15.1"
assert np.array_equal(walk(True), walk(False))
print("as seen before: relative_step=False is taken and does nothing")
PYTHON
