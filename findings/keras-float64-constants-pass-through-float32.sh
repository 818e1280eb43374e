#!/usr/bin/env bash
# keras 3.15.1 on tensorflow 2.21.0: Python numbers that Keras casts to float64 go through float32, with floatx float64 too.
# Seen: `keras.ops.cast(0.999, "float64")` is 0.9990000128746033, and Keras' own Adam on a float64 variable is 7e-6 of the path
# off its formula after three steps. The learning rate, the betas and the counters of every optimizer are cast so.
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

keras.config.set_floatx("float64")
variable = keras.Variable(np.zeros(1), dtype="float64")
optimizer = keras.optimizers.Adam(learning_rate=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-7)
m = v = p = 0.0
for t in range(1, 4):
    g = 1.0 / t
    optimizer.apply([keras.ops.convert_to_tensor([g], dtype="float64")], [variable])
    m, v = m + 0.1 * (g - m), v + 0.001 * (g * g - v)
    p -= 0.1 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t) * m / (v**0.5 + 1e-7)
beta = float(keras.ops.cast(0.999, "float64"))
off = abs(float(variable[0]) - p) / abs(p)
print(f"keras {keras.__version__}")
print(f"keras.ops.cast(0.999, 'float64') is {beta!r}")
print(f"Adam on a float64 variable after 3 steps: {float(variable[0])!r}; in float64: {p!r}; relative difference {off:.1e}")
assert keras.__version__ == "3.15.1"
assert beta == float(np.float32(0.999)) != 0.999
assert 1e-8 < off < 1e-4
print("as seen before: numbers on their way to float64 pass through float32")
PYTHON
