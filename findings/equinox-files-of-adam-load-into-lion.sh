#!/usr/bin/env bash
# equinox 0.13.8, optax 0.2.8: a file of `tree_serialise_leaves` is leaves one after another, without names or their number, and
# `tree_deserialise_leaves` reads as many as it is asked for. What is left in the file is no error.
# Seen: the state of optax.adam loads into that of optax.lion, which takes Adam's mean for its momentum and its count; into
# adabelief, whose second slot means something else; and into nothing of another shape or with more leaves.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check equinox==0.13.8 optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 \
  numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import io

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

params = {"w": jnp.ones(3)}
_, trained = optax.adam(1e-3).update(params, optax.adam(1e-3).init(params), params)
file = io.BytesIO()
eqx.tree_serialise_leaves(file, trained)


def loaded(tx: optax.GradientTransformation) -> tuple[object, int]:
    file.seek(0)
    try:
        state = eqx.tree_deserialise_leaves(file, tx.init(params))
    except Exception as error:
        return type(error).__name__, 0
    return state, len(file.read())


lion, left = loaded(optax.lion(1e-3))
belief, _ = loaded(optax.adabelief(1e-3))
amsgrad, _ = loaded(optax.amsgrad(1e-3))
print(f"equinox {eqx.__version__}, optax {optax.__version__}, jax {jax.__version__}; the file is of optax.adam")
print(f"lion: count {lion[0].count}, mu {lion[0].mu['w']}; {left} bytes of the file are not read")
print(f"adabelief: nu {belief[0].nu['w']}; amsgrad: {amsgrad}")
assert eqx.__version__ == "0.13.8" and optax.__version__ == "0.2.8"
assert int(lion[0].count) == 1 and jnp.allclose(lion[0].mu["w"], 0.1) and left > 0
assert jnp.allclose(belief[0].nu["w"], 1e-3)
assert isinstance(amsgrad, str)
print("as seen before: a file of Adam's is taken for Lion's, and the rest of it is left unread")
PYTHON
