#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: `optax.contrib.dadapt_adamw` is NaN for ever after a first step that has learned nothing: with
# a learning rate of 0, where a warm-up from 0 begins, as its documentation recommends one, or with gradients of 0. Its
# estimate is then 0 / 0, and jax.numpy.maximum(d, NaN) is NaN. The authors' package leaves d as it is.
# Seen: the parameters are NaN after the second step; with a warm-up that begins above 0 they are finite.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax


def after(steps: int, first: float, gradient: float = 1.0) -> float:
    optimizer = optax.contrib.dadapt_adamw(optax.linear_schedule(first, 1.0, 10))
    p = jnp.ones(())
    state = optimizer.init(p)
    for _ in range(steps):
        updates, state = optimizer.update(jnp.asarray(gradient), state, p)
        p = optax.apply_updates(p, updates)
    return float(p)


found = after(2, 0.0), after(2, 0.1), after(2, 0.1, gradient=0.0)
print(f"optax {optax.__version__}: warm-up from 0 {found[0]}, from 0.1 {found[1]}, without a gradient {found[2]}")
assert optax.__version__ == "0.2.8"
assert found[0] != found[0] and found[2] != found[2]
assert found[1] == found[1]
print("as seen before: an estimate of 0 / 0 stays NaN")
PYTHON
