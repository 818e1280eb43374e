#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: the docstring of `optax.polyak_sgd` says that `scaling` multiplies the step, as
# scaling * min(gap / (|g|^2 + eps), max_learning_rate). It scales the gradient before its norm is taken, so that a
# scaling s gives s * min(gap / (s^2 |g|^2 + eps), max_learning_rate): half the scaling doubles the step.
# And `optax.contrib.momo` divides the parameter alone by 1 + lr * weight_decay, where its authors' package divides
# parameter and step, which is the proximal step of the paper.
# Seen: at a gradient of 2 and a gap of 1, a step of 1.0 with scaling=0.5, and of 0.5 with scaling=1.0; and Momo's
# parameter after one step from 1 of a length of 1.125 with lr=1 and weight_decay=1 is -0.625, not -0.0625.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax


def step(optimizer: optax.GradientTransformationExtraArgs, p: float, gradient: float, value: float) -> float:
    p = jnp.asarray(p)
    updates, _ = optimizer.update(jnp.asarray(gradient), optimizer.init(p), p, value=value)
    return float(updates)


found = [-step(optax.polyak_sgd(scaling=s), 1.0, 2.0, 1.0) for s in (0.5, 1.0)]
momo = 1.0 + step(optax.contrib.momo(learning_rate=1.0, weight_decay=1.0), 1.0, 2.0, 2.125)
print(f"optax {optax.__version__}: steps at scaling 0.5 and 1: {found}; Momo's parameter: {momo}")
assert optax.__version__ == "0.2.8"
assert found == [1.0, 0.5]
# h = (1 + lr wd) (loss - g p) + g p = 2 (2.125 - 2) + 2 = 2.25, so tau = 2.25 / 4 and tau g = 1.125
assert momo == 1.0 / 2 - 1.125
assert momo != (1.0 - 1.125) / 2
print("as seen before: the norm is of scaled gradients, and decay leaves Momo's step out")
PYTHON
