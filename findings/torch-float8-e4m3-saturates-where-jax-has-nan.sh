#!/usr/bin/env bash
# torch 2.13.0, jax 0.10.2, ml_dtypes 0.6.0: a float32 number that float8_e4m3fn cannot hold becomes 448, its largest, in torch, and
# NaN in JAX and in numpy with ml_dtypes. So does infinity. Of float8_e5m2, which has an infinity, all three make that.
# Seen: 1000 is 448 in torch and NaN in the others. Scaled state of which one number overflows trains on in one framework and not
# in another, and torch's file shows no trace of it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 jax==0.10.2 jaxlib==0.10.2 \
  ml_dtypes==0.6.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch

numbers = np.array([448.0, 1000.0, -1e6, np.inf], "float32")


def cast(name: str) -> dict[str, list[float]]:
    return {
        "torch": torch.from_numpy(numbers).to(getattr(torch, name)).float().tolist(),
        "jax": jnp.asarray(numbers).astype(getattr(jnp, name)).astype(jnp.float32).tolist(),
        "ml_dtypes": numbers.astype(getattr(ml_dtypes, name)).astype("float32").tolist(),
    }


e4m3, e5m2 = cast("float8_e4m3fn"), cast("float8_e5m2")
print(f"torch {torch.__version__}, jax {jax.__version__}, ml_dtypes {ml_dtypes.__version__}: casts of {numbers.tolist()}")
print(f"float8_e4m3fn: {e4m3}")
print(f"float8_e5m2: {e5m2}")
assert torch.__version__.startswith("2.13.0") and jax.__version__ == "0.10.2"
assert e4m3["torch"] == [448.0, 448.0, -448.0, 448.0]
assert all(e4m3[name][0] == 448.0 and np.isnan(e4m3[name][1:]).all() for name in ("jax", "ml_dtypes"))
assert e5m2["torch"] == e5m2["jax"] == e5m2["ml_dtypes"]
print("as seen before: torch saturates float8_e4m3fn, JAX and ml_dtypes make NaN")
PYTHON
