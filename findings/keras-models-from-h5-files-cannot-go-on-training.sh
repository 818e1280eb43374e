#!/usr/bin/env bash
# keras 3.15.1: a compiled model that is saved as "model.h5" and loaded again raises at its first `fit`. Loading builds the optimizer
# for the variables that are the model's own, of which a model made of layers has none, and sets the first two numbers alone.
# Seen: after `load_model` Adam has 2 variables of 6, iterations is 1, its moments are gone without a warning, and `fit` is a
# ValueError: "the optimizer was built with 0 variables" on JAX, "Unknown variable" on TensorFlow and PyTorch. The same model in a
# ".keras" file goes on.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import logging
import os
import sys
import warnings

os.environ["KERAS_BACKEND"] = "jax"
logging.getLogger("absl").setLevel(logging.ERROR)
import keras
import numpy as np

x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")


def resumed(ending: str) -> tuple[int, int, str, int]:
    entry = keras.Input((3,))
    model = keras.Model(entry, keras.layers.Dense(1)(entry))
    model.compile(keras.optimizers.Adam(0.5), keras.losses.MeanSquaredError())
    model.fit(x, y, verbose=0)
    assert len(model.optimizer.variables) == 6
    model.save(f"{sys.argv[1]}/model{ending}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = keras.models.load_model(f"{sys.argv[1]}/model{ending}")
    variables, steps = len(again.optimizer.variables), int(again.optimizer.iterations)
    try:
        again.fit(x, y, verbose=0)
        outcome = "trains"
    except ValueError as error:
        outcome = str(error)
    return variables, steps, outcome, len([w for w in caught if "optimizer" in str(w.message).lower()])


h5, native = resumed(".h5"), resumed(".keras")
print(f"keras {keras.__version__}: the model's Adam has 6 variables")
print(f".h5: {h5[0]} variables, iterations {h5[1]}, {h5[3]} warnings, fit: {h5[2][-70:]}")
print(f".keras: {native[0]} variables, iterations {native[1]}, fit: {native[2]}")
assert keras.__version__ == "3.15.1"
assert h5[:2] == (2, 1) and "built with 0 variables" in h5[2] and h5[3] == 0
assert native[:3] == (6, 1, "trains")
print("as seen before: a model from an .h5 file has lost its moments and cannot be trained on")
PYTHON
