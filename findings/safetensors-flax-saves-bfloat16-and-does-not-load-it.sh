#!/usr/bin/env bash
# safetensors 0.8.0, jax 0.10.2: `safetensors.flax` and `safetensors.numpy` write bfloat16 and cannot read what they have written.
# Seen: `safetensors.flax.save` of bfloat16 arrays makes a file of dtype BF16, as the format has it; `safetensors.flax.load` and
# `safetensors.numpy.load` of it are KeyError: 'BF16', and one such array keeps all others of the file from being read. With float16
# and float32 both ways work.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 jax==0.10.2 jaxlib==0.10.2 \
  ml_dtypes==0.6.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import safetensors
from safetensors import flax as for_flax
from safetensors import numpy as for_numpy


def outcome(library, file: bytes) -> str:
    try:
        return f"read, {library.load(file)['mu'].dtype}"
    except KeyError as error:
        return f"KeyError {error}"


seen = {}
for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
    file = for_flax.save({"mu": jnp.array([0.5, -2.0], dtype), "nu": jnp.ones(2, jnp.float32)})
    seen[dtype.__name__] = [outcome(library, file) for library in (for_flax, for_numpy)]
    written = {name: entry["dtype"] for name, entry in safetensors.deserialize(file)}["mu"]
    print(f"{dtype.__name__}, {written} in the file: by safetensors.flax and safetensors.numpy {seen[dtype.__name__]}")
print(f"safetensors {safetensors.__version__}, jax {jax.__version__}")
assert safetensors.__version__ == "0.8.0" and jax.__version__ == "0.10.2"
assert seen["bfloat16"] == ["KeyError 'BF16'"] * 2
assert seen["float16"] == ["read, float16"] * 2 and seen["float32"] == ["read, float32"] * 2
print("as seen before: bfloat16 can be saved by safetensors.flax and not loaded")
PYTHON
