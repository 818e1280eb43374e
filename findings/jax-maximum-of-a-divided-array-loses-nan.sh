#!/usr/bin/env bash
# jax 0.10.2 on two CPU devices: the maximum of an array that is divided over devices loses a NaN.
# Seen: jnp.max of [nan, 1, 1, 1] is nan on one device and 1.0 where the array is divided over two; jnp.sum is nan in both. A
# check for finite numbers by their largest value passes where it should not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

x = jnp.ones(4).at[0].set(jnp.nan)
mesh = Mesh(np.array(jax.devices("cpu")), "x")
divided = jax.device_put(x, NamedSharding(mesh, PartitionSpec("x")))
seen = {name: float(jax.jit(f)(y)) for f in (jnp.max, jnp.sum) for name, y in ((f"{f.__name__}, one device", x), (f"{f.__name__}, two devices", divided))}
print(f"jax {jax.__version__}, {len(jax.devices('cpu'))} CPU devices; of [nan, 1, 1, 1]:")
for name, value in seen.items():
    print(f"{name}: {value}")
assert jax.__version__ == "0.10.2"
assert np.isnan(seen["max, one device"]) and seen["max, two devices"] == 1.0
assert np.isnan(seen["sum, one device"]) and np.isnan(seen["sum, two devices"])
print("as seen before: a maximum over a divided array loses NaN, a sum does not")
PYTHON
