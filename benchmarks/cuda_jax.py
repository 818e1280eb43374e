"""JAX on a CUDA device: `update` with `apply_updates` under `jit`, parameters and state donated, against optax."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from scirs2_adapters import jax as ours

#: Optimizer, and its options in both.
CASES: list[tuple[str, dict[str, Any]]] = [("adamw", {}), ("lion", {}), ("sgd", {"momentum": 0.9})]


def measured(name: str, options: dict[str, Any], sizes: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Of ours and of optax: medians of a step, interleaved, until its results are there, and the first compilation,
    which is optax's first, so that what JAX does once in a process is not ours.
    """
    steps = {"optax": getattr(optax, name)(1e-6, **options), "ours": getattr(ours, name)(1e-6, **options)}
    rows: dict[str, dict[str, float]] = {}
    running: dict[str, tuple[Any, list[Any], list[float]]] = {}
    grads = [jnp.full((n,), 0.5, jnp.float32) for n in sizes]
    for form, tx in steps.items():
        params = [jnp.ones((n,), jnp.float32) for n in sizes]
        donated = [params, tx.init(params)]
        begun = time.perf_counter()
        step = jax.jit(_step(tx), donate_argnums=(0, 1)).lower(*donated, grads).compile()
        rows[form] = {"compile_s": time.perf_counter() - begun}
        running[form] = step, donated, []
    for _ in range(rounds + 1):
        for step, donated, times in running.values():
            begun = time.perf_counter()
            donated[:] = jax.block_until_ready(step(*donated, grads))
            times.append(1e3 * (time.perf_counter() - begun))
    for form, (_, _, times) in running.items():
        rows[form]["ms"] = statistics.median(times[1:])
    return rows


def line(name: str, label: str, rows: dict[str, dict[str, float]]) -> str:
    """A row of the table in Markdown."""
    mine, optaxs = rows["ours"], rows["optax"]
    (ms, first), (theirs, their_first) = ([row[key] for key in ("ms", "compile_s")] for row in (mine, optaxs))
    times = f"{ms:.3f} | {theirs:.3f} | {ms / theirs:.2f}"
    return f"| JAX {name} | {label} | {times} | {first:.2f} | {their_first:.2f} | {first / their_first:.2f} |"


def _step(tx: Any) -> Any:
    def step(params: Any, state: Any, grads: Any) -> Any:
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step
