#!/usr/bin/env bash
# keras 3.15.1 on JAX: an optimizer keeps the trainable variables of its model after the model is gone.
# Seen: with the model and every layer dropped and collected, all four kernels and biases are still alive, because the
# built optimizer has them in a list. Whoever keeps optimizers of many trials keeps the weights of all of them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax "$folder/venv/bin/python" - <<'PYTHON'
import gc
import weakref

import keras
import numpy as np

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
optimizer = keras.optimizers.Adam()
model.compile(optimizer, "mse")
model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0)
variables = [weakref.ref(v) for v in model.trainable_variables]
layer = weakref.ref(model.layers[0])
del model
keras.utils.clear_session()
gc.collect()
alive = sum(v() is not None for v in variables)
print(f"keras {keras.__version__}: {alive} of {len(variables)} variables alive, the layer {layer() is not None}")
assert keras.__version__ == "3.15.1"
assert alive == 4
assert layer() is None
PYTHON
echo "as seen before: the optimizer keeps the variables"
