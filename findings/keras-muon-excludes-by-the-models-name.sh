#!/usr/bin/env bash
# keras 3.15.1: `keras.optimizers.Muon(exclude_embeddings=True)`, the default, looks for "embedding" in a path that begins with
# the model's name, and a loaded model has lost that name.
# Seen: in a Sequential called "embedding_model" Adam steps every matrix; after save and load_model Muon would step them, the
# number of slots differs, and the optimizer's state is dropped: `iterations` is 0 where it was 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0
"$folder/venv/bin/python" - <<'PYTHON'
import os
import tempfile

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import warnings

import keras
import numpy as np


def trained(name: str) -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(3)], name=name)
    model.compile(keras.optimizers.Muon(0.02), "mse")
    model.fit(np.ones((2, 4)), np.ones((2, 3)), verbose=0)
    return model


def steps_after_loading(name: str) -> int:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trained(name).save(f"{folder}/model.keras")
        return int(keras.models.load_model(f"{folder}/model.keras").optimizer.iterations)


def by_adam(name: str) -> list[bool]:
    return [v is not None for v in trained(name).optimizer.adam_velocities]


print(f"keras {keras.__version__}")
for name in ("plain_model", "embedding_model"):
    print(f"{name}: stepped by Adam {by_adam(name)}; iterations after save and load {steps_after_loading(name)}")
assert keras.__version__ == "3.15.1"
assert by_adam("plain_model") == [False, True, False, True]
assert by_adam("embedding_model") == [True] * 4
assert (steps_after_loading("plain_model"), steps_after_loading("embedding_model")) == (1, 0)
print("as seen before: a model whose name has 'embedding' in it is trained by Adam, and loses its state when loaded")
PYTHON
