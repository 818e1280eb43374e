#!/usr/bin/env bash
# optax 0.2.8: sm3 cannot step a parameter without axes, such as a temperature, a gain or a bias of one number.
# Seen: its state has no accumulator for such a parameter, and update is an IndexError; adagrad, whose formula it is of
# vectors, steps it. One such parameter in a tree stops the whole tree.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax.numpy as jnp
import optax

params = {"kernel": jnp.ones((2, 3)), "temperature": jnp.ones(())}


def stepped(tx: optax.GradientTransformation) -> str:
    try:
        tx.update(params, tx.init(params), params)
    except IndexError as error:
        return f"IndexError: {error}"
    return "stepped"


print(f"optax {optax.__version__}, a kernel (2, 3) and a temperature ()")
print(f"adagrad: {stepped(optax.adagrad(0.1))}")
print(f"sm3's accumulators of the temperature: {optax.sm3(0.1).init(params)[0].mu['temperature']}")
print(f"sm3: {stepped(optax.sm3(0.1))}")
assert optax.__version__ == "0.2.8"
assert stepped(optax.adagrad(0.1)) == "stepped"
assert stepped(optax.sm3(0.1)).startswith("IndexError")
print("as seen before: sm3 takes no parameter without axes")
PYTHON
