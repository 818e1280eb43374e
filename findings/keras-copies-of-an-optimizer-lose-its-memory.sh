#!/usr/bin/env bash
# keras 3.15.1 on tensorflow 2.21.0: `copy.deepcopy` of an optimizer, and its pickle, have no moments.
# Seen: a copy that is made after three steps of Adam has 2 variables where the original has 4, and has counted no step.
# A UserWarning says that loading was skipped. A walk that goes on with the copy is another one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 tensorflow==2.21.0
"$folder/venv/bin/python" - <<'PYTHON'
import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import copy
import pickle
import warnings

import keras
import numpy as np

print(f"keras {keras.__version__}")
variable = keras.Variable(np.ones(3, "float32"))
optimizer = keras.optimizers.Adam()
for _ in range(3):
    optimizer.apply([keras.ops.ones(3)], [variable])
for name, copier in {"deepcopy": copy.deepcopy, "pickle": lambda o: pickle.loads(pickle.dumps(o))}.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        copied = copier(optimizer)
    counts = (len(optimizer.variables), len(copied.variables))
    said = [str(w.message) for w in caught if "Skipping variable loading" in str(w.message)]
    print(f"{name}: {counts[0]} variables become {counts[1]}, iterations {int(copied.iterations)}; warned: {bool(said)}")
    assert counts == (4, 2), counts
    assert said
assert keras.__version__ == "3.15.1"
print("as seen before: copies have no moments")
PYTHON
