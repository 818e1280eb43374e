"""Shared by the tests of memory of fewer bits in JAX: parameters long enough for blocks, and the formats."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters import get

from .jax_support import PATHS, Tree

SHAPES = {"bias": (80,), "flat": (4173,), "matrix": (96, 96)}
INT8 = {"state_dtype": "int8"}
BOTH = {"state_dtype": "int8", "rounding": "compensated"}
RANDOM = {"state_dtype": "int8", "rounding": "stochastic"}
FORMATS = pytest.mark.parametrize("options", [INT8, BOTH, RANDOM], ids=["int8", "compensated", "stochastic"])
RULES = [name for name in scirs2_adapters.names() if name not in ("sparseadam", "lookahead")]
each_rule = pytest.mark.parametrize("name", RULES)
each_path = pytest.mark.parametrize("path", PATHS)


def start(dtype: Any = jnp.float32) -> Tree:
    rng = np.random.default_rng(0)
    return {k: jnp.asarray(rng.standard_normal(s), dtype) for k, s in SHAPES.items()}


def gradients(steps: int, dtype: Any = jnp.float32, seed: int = 1) -> list[Tree]:
    rng = np.random.default_rng(seed)
    return [{k: jnp.asarray(rng.standard_normal(s), dtype) for k, s in SHAPES.items()} for _ in range(steps)]


def dtype_of(options: dict[str, Any]) -> Any:
    return jnp.bfloat16 if "rounding" in options else jnp.float32


def walk(step: Any, state: Tree, params: Tree, grads: list[Tree]) -> tuple[Tree, Tree]:
    jitted = jax.jit(step)
    for g in grads:
        params, state = jitted(g, state, params)
    return params, state


def memory_of(tx: Any, state: Tree) -> dict[str, Tree]:
    """Slots and companions by the core's names."""
    memory = tx.update.layout.read(state)
    return {**memory.slots, **memory.companions}


def skip_small_steps(name: str, options: dict[str, Any]) -> None:
    if get(name).first_step and options is not INT8:
        pytest.skip("refuses parameters of 16 bits: its first steps would be lost")
