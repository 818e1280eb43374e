#!/usr/bin/env bash
# keras 3.15.1 on tensorflow 2.21.0: Adam never moves a variable of bfloat16.
# Seen: after 50 steps with gradients of one, a bfloat16 variable is what it was, bit for bit, and a float16 one has moved.
# Keras casts beta_2 to the variable's dtype, where 0.999 is 1: the correction sqrt(1 - beta_2**t) is 0, and so is every step.
# Nothing warns. A model under the dtype policy "bfloat16" does not train; under "mixed_bfloat16" its variables are float32.
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

print(f"keras {keras.__version__}")
moved = {}
for dtype in ("float32", "float16", "bfloat16"):
    variable = keras.Variable(np.full(3, 0.01), dtype=dtype)
    before = np.array(keras.ops.cast(variable, "float64"))
    optimizer = keras.optimizers.Adam(learning_rate=1e-3)
    for _ in range(50):
        optimizer.apply([keras.ops.ones(3, dtype=dtype)], [variable])
    after = np.array(keras.ops.cast(variable, "float64"))
    moved[dtype] = not np.array_equal(before, after)
    print(f"{dtype}: from {before[0]:.6f} to {after[0]:.6f} in 50 steps")
assert keras.__version__ == "3.15.1"
assert moved == {"float32": True, "float16": True, "bfloat16": False}, moved
print("as seen before: a variable of bfloat16 stays where it is")
PYTHON
