#!/usr/bin/env bash
# jax 0.10.2 on the CPU: a result is written into the first donated argument of its shape and dtype, not into the one that
# it replaces.
# Seen: a step that takes (first, second) and returns the new second before the new first, all of one shape, is compiled with
# a copy of a whole array (4 MiB of temporary memory for arrays of 4 MiB, or more); in the order of the arguments it needs
# none. Nothing warns: both count as donated.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PYTHON'
import jax
import jax.numpy as jnp


def crossed(momentum, params, grads):
    return params - 0.1 * grads, 0.9 * momentum + grads


def straight(params, momentum, grads):
    return params - 0.1 * grads, 0.9 * momentum + grads


x = jnp.ones((1024, 1024))
seen = {}
for step in (crossed, straight):
    memory = jax.jit(step, donate_argnums=(0, 1)).lower(x, x, x).compile().memory_analysis()
    seen[step.__name__] = memory.temp_size_in_bytes / x.nbytes
    print(f"jax {jax.__version__}, {step.__name__}: {seen[step.__name__]:.1f} arrays of temporary memory")
    assert memory.alias_size_in_bytes == 2 * x.nbytes
assert jax.__version__ == "0.10.2"
assert seen["crossed"] >= 1 and seen["straight"] == 0
print("as seen before: results take donated memory in order, and a crossed order costs copies")
PYTHON
