#!/usr/bin/env bash
# keras 3.15.1: `model.save("model.h5")` changes the model. It takes the optimizer out of the model's own record of how it was compiled,
# and a ".keras" file that is saved afterwards has none: loading compiles with the default, RMSprop.
# Seen: a model trained by Adam, saved as ".keras", loads with Adam and iterations 1. Saved as ".h5" first and as ".keras" then, the
# ".keras" file loads with RMSprop, a learning rate of 0.001 and iterations 0; the model in memory still has Adam.
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


def loaded(*endings: str) -> tuple[str, float, int]:
    """What the last of the files is loaded with, if the model is saved with these endings one after the other."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.5), keras.losses.MeanSquaredError())
    model.fit(x, y, verbose=0)
    for ending in endings:
        model.save(f"{sys.argv[1]}/model{ending}")
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = keras.models.load_model(f"{sys.argv[1]}/model{endings[-1]}").optimizer
    return type(optimizer).__name__, round(float(optimizer.learning_rate), 6), int(optimizer.iterations)


alone, after_h5 = loaded(".keras"), loaded(".h5", ".keras")
print(f"keras {keras.__version__}: a model trained by Adam with a learning rate of 0.5")
print(f"saved as .keras: {alone}")
print(f"saved as .h5, then as .keras: {after_h5}")
assert keras.__version__ == "3.15.1"
assert alone == ("Adam", 0.5, 1)
assert after_h5 == ("RMSprop", 0.001, 0)
print("as seen before: after a save to .h5 the .keras file has RMSprop in the place of Adam")
PYTHON
