#!/usr/bin/env bash
# keras 3.15.1 on torch 2.13.0: two Keras variables made of one torch tensor, or of one parameter, are one piece of memory.
# Seen: an assignment to one of the two changes the other, and the tensor. On TensorFlow and JAX variables made of one
# tensor change apart.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 torch==2.13.0 numpy==2.4.6
KERAS_BACKEND=torch "$folder/venv/bin/python" - <<'PYTHON'
import keras
import torch

seen = {}
for name, start in {"tensor": torch.ones(3), "parameter": torch.nn.Parameter(torch.ones(3))}.items():
    one, two = keras.Variable(start), keras.Variable(start)
    one.assign([5.0, 5.0, 5.0])
    seen[name] = [x.detach()[0].item() for x in (one.value, two.value, start)]
print(f"keras {keras.__version__} on torch {torch.__version__}: assigned, the other, the start: {seen}")
assert keras.__version__ == "3.15.1"
assert seen == {"tensor": [5.0] * 3, "parameter": [5.0] * 3}
PYTHON
echo "as seen before: Keras variables made of one torch tensor are one piece of memory"
