"""What an optimizer costs before it is fast: constructing it, and its first step in a fresh process.

Cold means an empty kernel cache, warm the cache that the cold process has left. The clock starts when the framework and
our adapter are imported and the model is made, and stops when the first step is done: this is what a user waits for.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from statistics import median

from .row import Row

_TORCH = """
import time, torch
{imports}
params = [torch.nn.Parameter(torch.randn(2000)) for _ in range(50)]
for p in params: p.grad = torch.randn(2000)
start = time.perf_counter()
optimizer = {cls}(params, lr=1e-3)
built = time.perf_counter()
optimizer.step()
print(built - start, time.perf_counter() - built)
"""
_JAX = """
import time, jax, jax.numpy as jnp, optax
{imports}
params = [jnp.ones(2000) for _ in range(50)]
grads = [jnp.ones(2000) for _ in range(50)]
jax.block_until_ready(jax.jit(lambda x: [a + 1 for a in x])(params))
start = time.perf_counter()
tx = {cls}(1e-3)
state = tx.init(params)
built = time.perf_counter()
jax.block_until_ready(jax.jit(lambda g, s, p: {step})(grads, state, params))
print(built - start, time.perf_counter() - built)
"""
_THEIRS = "optax.apply_updates(p, tx.update(g, s, p)[0])"
_CASES = {
    "torch": (
        _TORCH.format(imports="import scirs2_adapters.torch as ours", cls="ours.AdamW"),
        _TORCH.format(imports="", cls="torch.optim.AdamW"),
        "torch.optim.AdamW()",
    ),
    "jax": (
        _JAX.format(imports="import scirs2_adapters.jax as ours", cls="ours.adamw", step="ours.step(tx, g, s, p)"),
        _JAX.format(imports="", cls="optax.adamw", step=_THEIRS),
        "optax.adamw under jit",
    ),
}


def rows(quick: bool) -> Iterator[Row]:
    """Construction, and the first step cold and warm, in torch and JAX."""
    repeats = 1 if quick else 3
    for adapter, (mine, theirs, baseline) in _CASES.items():
        baseline_runs = _runs(theirs, repeats)
        cold, warm = _cold_and_warm(mine, repeats)
        for case, ours, k in (
            ("construct, 50 tensors", warm, 0),
            ("first step, cold cache", cold, 1),
            ("first step, warm cache", warm, 1),
        ):
            a, b = (median(r[k] for r in results) for results in (ours, baseline_runs))
            yield Row("first step", f"{adapter}: {case}", baseline, a * 1e3, b * 1e3, a / b)


def _cold_and_warm(code: str, repeats: int) -> tuple[list[list[float]], list[list[float]]]:
    cold, warm = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold += _runs(code, 1, cache)
            warm += _runs(code, 1, cache)
    return cold, warm


def _runs(code: str, repeats: int, cache: str = "") -> list[list[float]]:
    environment = {**os.environ, "SCIRS2_CACHE_DIR": cache}
    command = [sys.executable, "-c", code]
    outs = [subprocess.run(command, capture_output=True, text=True, env=environment) for _ in range(repeats)]
    if failed := [out.stderr for out in outs if out.returncode]:
        raise RuntimeError(failed[0])
    return [[float(x) for x in out.stdout.split()] for out in outs]
