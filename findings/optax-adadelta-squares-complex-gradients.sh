#!/usr/bin/env bash
# optax 0.2.8: of a complex gradient adam takes the square of the modulus, adadelta the square of the number itself.
# Seen: for 1+1j adam's mean of squares is real, 0.2; adadelta's is 0.2j, of which it takes a complex root.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax

params, grads = {"w": jnp.zeros(1, jnp.complex64)}, {"w": jnp.array([1 + 1j], jnp.complex64)}


def second_moment(tx: object, name: str) -> complex:
    _, state = tx.update(grads, tx.init(params), params)
    return complex(next(getattr(s, name) for s in state if hasattr(s, name))["w"][0])


adam = second_moment(optax.adam(1.0, b2=0.9), "nu")
adadelta = second_moment(optax.adadelta(1.0, rho=0.9), "e_g")
print(f"optax {optax.__version__}, gradient 1+1j, decay 0.9")
print(f"adam's mean of squares: {adam}; of the modulus, 0.1 * |1+1j|^2 = 0.2")
print(f"adadelta's mean of squares: {adadelta}; of the number itself, 0.1 * (1+1j)^2 = 0.2j")
assert optax.__version__ == "0.2.8"
assert abs(adam - 0.2) < 1e-6
assert abs(adadelta - 0.2j) < 1e-6
print("as seen before: adam takes the modulus of a complex gradient, adadelta squares the complex number")
PYTHON
