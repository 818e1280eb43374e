#!/usr/bin/env bash
# equinox 0.13.8, optax 0.2.8: `eqx.apply_updates` adds and casts nothing, where `optax.apply_updates` gives back the dtype of the
# parameters. A model of bfloat16 whose updates are float32 is a model of float32 after one step.
# Seen: with gradients taken in float32, as an accumulation has them, optax.adamw's updates are float32; eqx.apply_updates makes the
# parameters float32, twice their bytes, and nothing says so. optax.apply_updates leaves them bfloat16.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check equinox==0.13.8 optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 \
  numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import equinox as eqx
import jax
import jax.numpy as jnp
import optax

tx = optax.adamw(1e-3)


def dtypes(apply) -> list[str]:
    @jax.jit
    def step(model, state):
        grads = jax.tree.map(lambda p: jnp.ones(p.shape, jnp.float32), model)
        updates, state = tx.update(grads, state, model)
        return apply(model, updates), state

    model = eqx.nn.Linear(3, 2, key=jax.random.key(0), dtype=jnp.bfloat16)
    state, seen = tx.init(model), [str(model.weight.dtype)]
    for _ in range(3):
        model, state = step(model, state)
        seen.append(str(model.weight.dtype))
    return seen


by_equinox, by_optax = dtypes(eqx.apply_updates), dtypes(optax.apply_updates)
print(f"equinox {eqx.__version__}, optax {optax.__version__}, jax {jax.__version__}: the model before and after three steps")
print(f"eqx.apply_updates: {by_equinox}")
print(f"optax.apply_updates: {by_optax}")
assert eqx.__version__ == "0.13.8" and optax.__version__ == "0.2.8"
assert by_equinox == ["bfloat16", "float32", "float32", "float32"]
assert by_optax == ["bfloat16"] * 4
print("as seen before: eqx.apply_updates leaves a float32 model where a bfloat16 one was")
PYTHON
