#!/usr/bin/env bash
# optax 0.2.8: `apply_if_finite` around adam does not take bfloat16 gradients of float32 parameters.
# Seen: adam alone takes them and returns float32 updates; wrapped, the branch that rejects a step returns the gradients' dtype, and
# the two branches of the `cond` differ: TypeError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax

params = {"w": jnp.ones(2, jnp.float32)}


def outcome(dtype: object) -> str:
    tx = optax.apply_if_finite(optax.adam(1e-3), 5)
    try:
        updates, _ = tx.update({"w": jnp.ones(2, dtype)}, tx.init(params), params)
    except TypeError as error:
        return f"TypeError: {' '.join(str(error).split())[:90]}"
    return f"updates of {updates['w'].dtype}"


seen = {jnp.dtype(d).name: outcome(d) for d in (jnp.float32, jnp.bfloat16)}
print(f"optax {optax.__version__}, float32 parameters")
for name, value in seen.items():
    print(f"gradients of {name}: {value}")
assert optax.__version__ == "0.2.8"
assert seen["float32"] == "updates of float32"
assert "cond branches must have equal output types" in seen["bfloat16"]
print("as seen before: apply_if_finite does not take gradients narrower than the moments of what it wraps")
PYTHON
