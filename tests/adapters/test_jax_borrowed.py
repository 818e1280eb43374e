"""Memory that numpy owns, and JAX only borrows, is written by no step, donated or not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scirs2_adapters.jax as adapter
from scirs2_adapters import names
from scirs2_adapters.jax import step


def aligned(size: int) -> np.ndarray:
    """Ones at an address that JAX takes without a copy."""
    raw = np.zeros(4 * size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    made = raw[start : start + 4 * size].view(np.float32)
    made[:] = 1.0
    return made


@pytest.mark.parametrize("name", names())
def test_a_step_on_borrowed_memory_writes_none_of_it(name: str) -> None:
    tx: Any = getattr(adapter, name)(learning_rate=0.1)
    held = {"w": aligned(64), "g": aligned(64)}
    params, grads = ({k: jnp.from_dlpack(held[v])} for k, v in (("p", "w"), ("p", "g")))
    assert params["p"].unsafe_buffer_pointer() == held["w"].ctypes.data
    state = tx.init(params)
    for donated in ((), (1, 2)):
        stepped = jax.jit(lambda g, s, p: step(tx, g, s, p), donate_argnums=donated)
        new, _ = stepped(dict(grads), tx.init(params) if donated else state, dict(params))
        assert jnp.isfinite(new["p"]).all()
        assert all((x == 1.0).all() for x in held.values())
