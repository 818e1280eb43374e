#!/usr/bin/env bash
# jax 0.10.2 on the CPU: `jax.device_put` of a torch parameter's `.numpy()` is no copy, and a step of torch changes the JAX array.
# Its docstring calls the result a copy and says that `may_alias=False` copies; both borrow. `jnp.asarray` and `jnp.array` copy.
# Seen: after a step of torch.optim.SGD of length 1 the arrays of `device_put`, with and without may_alias=False, have moved by 1;
# those of `jnp.asarray` and `jnp.array` stand.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import torch

WAYS = {
    "jax.device_put": jax.device_put,
    "jax.device_put, may_alias=False": lambda x: jax.device_put(x, may_alias=False),
    "jnp.asarray": jnp.asarray,
    "jnp.array": jnp.array,
}


def moved(take) -> float:
    parameter = torch.nn.Parameter(torch.zeros(64, 64))
    taken = jax.block_until_ready(take(parameter.detach().numpy()))
    before = np.array(taken)
    parameter.grad = torch.ones(64, 64)
    torch.optim.SGD([parameter], lr=1.0).step()
    return float(np.abs(np.asarray(taken) - before).max())


seen = {name: moved(take) for name, take in WAYS.items()}
print(f"jax {jax.__version__}, torch {torch.__version__}")
for name, distance in seen.items():
    print(f"{name}: the JAX array has moved by {distance} in torch's step")
assert jax.__version__ == "0.10.2"
assert list(seen.values()) == [1.0, 1.0, 0.0, 0.0]
print("as seen before: an array of device_put is torch's memory, may_alias=False or not")
PYTHON
