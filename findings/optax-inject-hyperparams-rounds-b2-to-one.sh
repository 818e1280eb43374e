#!/usr/bin/env bash
# optax 0.2.8: `inject_hyperparams` stores hyperparameters in the dtype of the parameters.
# Seen: with bfloat16 parameters b2 = 0.999 becomes 1.0, the bias correction divides by zero, and every update is NaN, without an
# error. With hyperparam_dtype=float32 it works.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax

params = {"w": jnp.ones(2, jnp.bfloat16)}
grads = {"w": jnp.full(2, 0.5, jnp.bfloat16)}


def stepped(**how: object) -> tuple[object, object]:
    tx = optax.inject_hyperparams(optax.adam, **how)(learning_rate=1e-3)
    updates, state = tx.update(grads, tx.init(params), params)
    return state.hyperparams["b2"], updates["w"]


narrow, wide = stepped(), stepped(hyperparam_dtype=jnp.float32)
print(f"optax {optax.__version__}, bfloat16 parameters")
print(f"b2 {narrow[0]} ({narrow[0].dtype}): updates {narrow[1]}")
print(f"b2 {wide[0]} ({wide[0].dtype}): updates {wide[1]}")
assert optax.__version__ == "0.2.8"
assert float(narrow[0]) == 1.0 and bool(jnp.isnan(narrow[1]).all())
assert bool(jnp.isfinite(wide[1]).all())
print("as seen before: inject_hyperparams rounds b2 = 0.999 to the parameters' dtype, where it is 1, and the update is NaN")
PYTHON
