#!/usr/bin/env bash
# optax 0.2.8: `optax.global_norm` adds up the squares of the leaves in the dtype of the gradients. In bfloat16 a sum of 256 does not
# change when 1 is added, so the norm of many small leaves stops growing, and `clip_by_global_norm` lets through what is too long.
# Seen: 1,000 leaves whose norms are 1 have the norm 16 and not 31.6; clipped to 1 their norm is 1.98. In float32 both are right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import optax


def norms(dtype) -> tuple[float, float]:
    grads = {f"layer_{i}": jnp.ones(1, dtype) for i in range(1000)}
    clipped, _ = optax.clip_by_global_norm(1.0).update(grads, optax.EmptyState())
    length = np.linalg.norm([float(x[0]) for x in clipped.values()])
    return float(optax.global_norm(grads)), float(length)


bfloat16, float32 = norms(jnp.bfloat16), norms(jnp.float32)
print(f"optax {optax.__version__}, jax {jax.__version__}: 1,000 leaves whose norms are 1")
print(f"bfloat16: norm {bfloat16[0]}, after clipping to 1 {bfloat16[1]:.3f}")
print(f"float32: norm {float32[0]:.3f}, after clipping to 1 {float32[1]:.3f}")
assert optax.__version__ == "0.2.8"
assert bfloat16[0] == 16.0 and 1.9 < bfloat16[1] < 2.1
assert abs(float32[0] - 1000**0.5) < 1e-3 and abs(float32[1] - 1) < 1e-3
print("as seen before: the norm of bfloat16 gradients stops at 16")
PYTHON
