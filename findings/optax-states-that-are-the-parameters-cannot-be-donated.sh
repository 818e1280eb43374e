#!/usr/bin/env bash
# optax 0.2.8, jax 0.10.2: `init` of prodigy, dog, dowg and mechanize puts the parameters' own arrays into the state, as the point
# where they began, and not copies. A train step to which parameters and state are donated fails at the first call.
# Seen: JaxRuntimeError, "Attempt to donate the same buffer twice", for these four; adam, dadapt_adamw and schedule_free_adamw train.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import jax
import jax.numpy as jnp
import optax
from optax import contrib

MADE = {
    "adam": optax.adam(1e-3), "dadapt_adamw": contrib.dadapt_adamw(), "schedule_free_adamw": contrib.schedule_free_adamw(),
    "prodigy": contrib.prodigy(), "dog": contrib.dog(), "dowg": contrib.dowg(), "mechanize": contrib.mechanize(optax.sgd(1.0)),
}  # fmt: skip


def outcome(tx: optax.GradientTransformation) -> str:
    params = {"w": jnp.full(1000, 2.0)}
    state = tx.init(params)

    def train(params, state):
        updates, state = tx.update(params, state, params)
        return optax.apply_updates(params, updates), state

    try:
        jax.block_until_ready(jax.jit(train, donate_argnums=(0, 1))(params, state))
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    return "trains"


seen = {name: outcome(tx) for name, tx in MADE.items()}
print(f"optax {optax.__version__}, jax {jax.__version__}")
for name, said in seen.items():
    print(f"{name}: {said[:80]}")
assert optax.__version__ == "0.2.8"
assert [name for name, said in seen.items() if said == "trains"] == ["adam", "dadapt_adamw", "schedule_free_adamw"]
assert all("donate the same buffer twice" in said for said in seen.values() if said != "trains")
print("as seen before: the state of four optimizers is the parameters, and cannot be donated with them")
PYTHON
