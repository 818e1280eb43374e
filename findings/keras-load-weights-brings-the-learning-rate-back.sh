#!/usr/bin/env bash
# keras 3.15.1: `save_weights` of a compiled model writes the optimizer's variables too, and `load_weights` takes them: moments, the
# number of steps, and the learning rate, which replaces the one that the model was compiled with.
# Seen: a model compiled with learning_rate=1e-5 for fine-tuning has 0.5, that of the training before, after `load_weights`, without a
# warning: with SGD always, with Adam once its variables are built. Of an Adam that is not built nothing is taken, with a warning.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import sys
import warnings

os.environ["KERAS_BACKEND"] = "jax"
import keras
import numpy as np

x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
path = f"{sys.argv[1]}/model.weights.h5"


def compiled(optimizer: keras.optimizers.Optimizer, build: bool = False) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    if build:
        optimizer.build(model.trainable_variables)
    return model


def after_loading(kind: type, build: bool) -> tuple[float, int, int]:
    model = compiled(kind(0.5))
    model.fit(x, y, verbose=0)
    model.save_weights(path)
    tuned = compiled(kind(1e-5), build)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tuned.load_weights(path)
    said = [w for w in caught if "optimizer" in str(w.message)]
    return round(float(tuned.optimizer.learning_rate), 6), int(tuned.optimizer.iterations), len(said)


KINDS = (keras.optimizers.SGD, keras.optimizers.Adam)
cases = {(kind.__name__, build): after_loading(kind, build) for kind in KINDS for build in (False, True)}
print(f"keras {keras.__version__}: compiled with a learning rate of 1e-5, loaded from a training with 0.5")
for (name, build), (rate, steps, said) in cases.items():
    print(f"{name}, {'built' if build else 'not built'}: learning rate {rate}, iterations {steps}, {said} warnings")
assert keras.__version__ == "3.15.1"
assert cases["SGD", False] == cases["SGD", True] == cases["Adam", True] == (0.5, 1, 0)
assert cases["Adam", False] == (1e-5, 0, 1)
print("as seen before: load_weights replaces the learning rate of the compiled optimizer, and says nothing")
PYTHON
