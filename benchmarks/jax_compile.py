"""JAX: compiling a jitted step of 300 parameters, from tracing to machine code, against optax's; ours by each path.

Every round compiles anew, all three in turn. The case says how many fusions the traced program has, and optax's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import optax

from scirs2_adapters import jax as ours

from .row import Row, mixed


def rows(quick: bool) -> Iterator[Row]:
    """AdamW, the kernel and the traced formula."""
    sizes = mixed(30 if quick else 300, 10_000 if quick else 10_000_000)
    params = [jax.ShapeDtypeStruct((n,), jnp.float32) for n in sizes]
    host, traced, theirs = ours.adamw(1e-3), ours.adamw(1e-3, kernel="traced"), optax.adamw(1e-3)
    makes = [_compiler(tx, params, step) for tx, step in ((host, _step), (traced, _plain), (theirs, _plain))]
    fusions = [make().as_text().count(" fusion(") for make in makes]
    times: list[list[float]] = [[] for _ in makes]
    for _ in range(1 if quick else 3):
        for make, column in zip(makes, times, strict=True):
            jax.clear_caches()
            start = time.perf_counter()
            make()
            column.append((time.perf_counter() - start) * 1e3)
    kernel, formula, baseline = map(median, times)
    case = f"compile a step of {len(params)} parameters"
    yield Row("jax compile", f"{case}, the kernel", "optax.adamw", kernel, baseline, kernel / baseline)
    described = f"{case}, traced ({fusions[1]} fusions; optax {fusions[2]})"
    yield Row("jax compile", described, "optax.adamw", formula, baseline, formula / baseline)


def _step(tx: Any, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
    return ours.step(tx, grads, state, params)


def _plain(tx: Any, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def _compiler(tx: Any, params: Any, step: Callable[..., tuple[Any, Any]]) -> Callable[[], Any]:
    state = jax.eval_shape(tx.init, params)

    def compile_step() -> Any:
        fast = jax.jit(lambda p, s, g: step(tx, g, s, p), donate_argnums=(0, 1))
        return fast.lower(params, state, params).compile()

    return compile_step
