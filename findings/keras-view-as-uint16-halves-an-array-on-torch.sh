#!/usr/bin/env bash
# keras 3.15.1 on torch 2.13.0: `keras.ops.view(x, "uint16")` of four float16 numbers has two elements.
# Seen: on JAX the result is four uint16 numbers. On torch it is two int32 numbers, because Keras has int32 in the
# place of uint16 there, without a word. "int16" gives four numbers on both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check keras==3.15.1 torch==2.13.0 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
for backend in torch jax; do
KERAS_BACKEND=$backend "$folder/venv/bin/python" - <<'PYTHON'
import keras
from keras import ops

x = ops.convert_to_tensor([1.0, 2.0, 3.0, 4.0], dtype="float16")
seen = {dtype: (tuple(ops.view(x, dtype).shape), str(ops.view(x, dtype).dtype)) for dtype in ("uint16", "int16")}
backend = keras.backend.backend()
print(f"keras {keras.__version__} on {backend}: view of shape (4,) float16 as uint16 {seen['uint16']}, as int16 {seen['int16']}")
assert keras.__version__ == "3.15.1"
assert seen["int16"][0] == (4,)
assert seen["uint16"] == (((2,), "torch.int32") if backend == "torch" else ((4,), "uint16"))
PYTHON
done
echo "as seen before: on torch a view as uint16 has half as many elements"
