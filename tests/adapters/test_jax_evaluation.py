"""`evaluation_params` of the JAX adapter beside the core's, and beside the state that a program is given."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scirs2_adapters as s2
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import factory_name
from scirs2_adapters.core import HostOptimizer, evaluation_params
from tests.conformance.options import still_steps

AVERAGING = [name for name in s2.names() if s2.get(name).evaluation is not None]
RNG = np.random.default_rng(0)
START = {"w": RNG.normal(size=(5, 3)), "b": RNG.normal(size=3)}
GRADS = [{k: RNG.normal(0.3, size=x.shape) for k, x in START.items()} for _ in range(4)]


def float32(tree: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    return {k: jnp.asarray(x, "float32") for k, x in tree.items()}


@pytest.mark.parametrize("name", AVERAGING)
def test_it_is_what_the_core_evaluates(name: str) -> None:
    tx, host = getattr(adapter, factory_name(name))(), HostOptimizer(name, {k: x.copy() for k, x in START.items()})
    params, steps = float32(START), GRADS * (1 + still_steps(name))
    state = tx.init(params)
    for grads in steps:
        host.step(grads)
        params, state = adapter.step(tx, float32(grads), state, params)
    seen, expected = adapter.evaluation_params(tx, state, params), evaluation_params(host)
    for k, right in expected.items():
        np.testing.assert_allclose(seen[k], right, rtol=2e-5, atol=1e-6)
    assert any(np.any(np.asarray(params[k]) != np.asarray(seen[k])) for k in params)


@pytest.mark.parametrize("name", AVERAGING)
def test_what_is_evaluated_outlives_the_state(name: str) -> None:
    """Which a compiled step is given, memory and all."""
    tx, params = getattr(adapter, factory_name(name))(), float32(START)
    state = tx.init(params)

    def step(params: optax.Params, state: optax.OptState) -> tuple[optax.Params, optax.OptState]:
        updates, state = tx.update(float32(GRADS[0]), state, params)
        return optax.apply_updates(params, updates), state

    step = jax.jit(step, donate_argnums=(0, 1))
    params, state = step(params, state)
    shown = adapter.evaluation_params(tx, state, params)
    before = {k: np.array(x) for k, x in shown.items()}
    step(params, state)
    for k, x in shown.items():
        np.testing.assert_array_equal(x, before[k])
