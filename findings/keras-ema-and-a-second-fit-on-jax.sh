#!/usr/bin/env bash
# keras 3.15.1 on JAX: with use_ema=True a second `fit` of the same model raises a TypeError, with Keras' own Adam.
# Seen: the first fit trains; the second one ends with "'NoneType' object is not callable". On torch both
# fits train.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 torch==2.13.0 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
for backend in jax torch; do
KERAS_BACKEND=$backend "$folder/venv/bin/python" - <<'PYTHON'
import keras
import numpy as np

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(use_ema=True), "mse")
x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
model.fit(x, y, verbose=0)
try:
    model.fit(x, y, verbose=0)
    seen = "trains"
except TypeError as error:
    seen = f"TypeError: {error}"
backend = keras.backend.backend()
print(f"keras {keras.__version__} on {backend}: the second fit {seen}")
assert keras.__version__ == "3.15.1"
assert seen == ("TypeError: 'NoneType' object is not callable" if backend == "jax" else "trains")
PYTHON
done
echo "as seen before: on JAX the second fit fails"
