#!/usr/bin/env bash
# optax 0.2.8: `adan` weighs differences of gradients by 1 - b2, where the paper and its authors' code have b2.
# The paper's beta2 is 0.08 and optax's b2 is 1 minus that; the paper's factor `1 - beta2` was taken over as it is. Reported:
# https://github.com/google-deepmind/optax/pull/1715.
# Seen: by default 0.08 in the place of 0.92. With lr 0.01 the second step, after gradients of 1 and 2, is 0.00946; it would be 0.00907.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import math

import jax.numpy as jnp
import optax

rate, b1, b2, b3 = 0.01, 0.98, 0.92, 0.99


def second_step(weight: float) -> float:
    """Of the published formula with this weight, after the gradients 1 and 2."""
    m, d = (b1 * (1 - b1) + (1 - b1) * 2) / (1 - b1**2), (1 - b2) / (1 - b2**2)
    n = (b3 * (1 - b3) + (1 - b3) * (2 + weight) ** 2) / (1 - b3**2)
    return rate * (m + weight * d) / math.sqrt(n)


tx, p = optax.adan(rate, b1, b2, b3, eps=0.0, eps_root=0.0), jnp.zeros(1)
state = tx.init(p)
for g in (1.0, 2.0):
    update, state = tx.update(jnp.full(1, g), state, p)
seen = -float(update[0])
print(f"optax {optax.__version__}, b2 = {b2}: the second step is {seen:.6f}")
print(f"by weight b2, as published: {second_step(b2):.6f}; by weight 1 - b2: {second_step(1 - b2):.6f}")
assert optax.__version__ == "0.2.8"
assert abs(seen - second_step(1 - b2)) < 1e-6 < 1e-5 < abs(seen - second_step(b2))
print("as seen before: differences weigh 1 - b2")
PYTHON
