#!/usr/bin/env bash
# optax 0.2.8: sm3 says that its learning rate may be a schedule, and refuses one.
# Seen: the docstring has "either fixed or evolving along iterations with a scheduler"; sm3(schedule) is a TypeError, for it
# negates what it is given, where optax's other optimizers multiply by it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import optax

schedule = optax.cosine_decay_schedule(0.1, 100)
promised = "with a scheduler" in " ".join(optax.sm3.__doc__.split())
print(f"optax {optax.__version__}")
print(f"sm3's docstring says that the learning rate may evolve with a scheduler: {promised}")
optax.adagrad(schedule)
print("adagrad(schedule): made")
try:
    optax.sm3(schedule)
    message = ""
except TypeError as error:
    message = str(error)
print(f"sm3(schedule): {message or 'made'}")
assert optax.__version__ == "0.2.8"
assert promised
assert "bad operand type for unary -" in message
print("as seen before: sm3 takes no schedule, though it says so")
PYTHON
