"""Optimizers whose step depends on the loss: given as `value`, as with optax's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import factory_name
from scirs2_adapters.core.registry import with_value

NAMES = tuple(map(factory_name, with_value()))
each = pytest.mark.parametrize("name", NAMES)
PARAMS = {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "b": np.ones(5, np.float32)}


def loss_of(params: Any) -> jax.Array:
    return sum(jnp.sum((p - 0.5) ** 2) for p in jax.tree.leaves(params))


def walked(tx: optax.GradientTransformation, fused: bool, steps: int = 4) -> tuple[Any, Any]:
    @jax.jit
    def step(params: Any, state: Any) -> tuple[Any, Any]:
        value, grads = jax.value_and_grad(loss_of)(params)
        if fused:
            return adapter.step(tx, grads, state, params, value=value)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.asarray, PARAMS)
    state = tx.init(params)
    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def assert_close(a: Any, b: Any) -> None:
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6), a, b)


@each
@pytest.mark.parametrize(
    "value", [None, jnp.ones(2), "1.0", jnp.asarray(1j)], ids=["none", "several", "word", "complex"]
)
@pytest.mark.parametrize("skip", [False, True])
def test_a_step_without_the_loss_is_refused(name: str, value: Any, skip: bool) -> None:
    tx = getattr(adapter, name)(skip_nonfinite=skip)
    extra = {} if value is None else {"value": value}
    words = (
        rf"`{name}\(\).update\(value=...\)` must be the loss of the step.*update\(grads, state, params, value=loss\)"
    )
    with pytest.raises(TypeError, match=words):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, **extra)
    with pytest.raises(TypeError, match=words):
        adapter.step(tx, PARAMS, tx.init(PARAMS), PARAMS, **extra)


@each
@pytest.mark.parametrize("fused", [False, True], ids=["update", "step"])
def test_a_chain_hands_the_loss_on(name: str, fused: bool) -> None:
    """Also where `step` sees through it, and under optax's wrappers."""
    theirs = getattr(optax, name, None) or getattr(optax.contrib, name)
    before = optax.clip_by_global_norm(2.0)
    expected, _ = walked(optax.chain(before, theirs()), fused=False)
    reached, _ = walked(optax.chain(before, getattr(adapter, name)(match="optax")), fused)
    assert_close(reached, expected)
    masked = optax.masked(getattr(adapter, name)(match="optax"), {"w": True, "b": False})
    assert_close(walked(masked, fused)[0]["w"], walked(optax.masked(theirs(), {"w": True, "b": False}), False)[0]["w"])


@pytest.mark.parametrize("name", ["momo", "momo_adam"])
def test_the_state_is_optaxs(name: str) -> None:
    theirs, ours = getattr(optax.contrib, name)(), getattr(adapter, name)(match="optax")
    (_, a), (_, b) = walked(theirs, fused=False), walked(ours, fused=True)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert_close(a, b)


@each
def test_a_loss_that_is_not_finite_is_skipped_where_that_is_asked_for(name: str) -> None:
    tx = getattr(adapter, name)(skip_nonfinite=True)
    for value, moves in ((jnp.nan, False), (1.0, True)):
        params, state = adapter.step(tx, PARAMS, tx.init(PARAMS), PARAMS, value=value)
        assert int(state.total_notfinite) == (not moves)
        assert np.array_equal(params["w"], PARAMS["w"]) != moves


@each
def test_explain_needs_no_loss(name: str) -> None:
    assert adapter.explain(getattr(adapter, name)(), PARAMS).startswith(f"{name}: 2 leaves")


def test_a_mask_is_refused_where_a_bound_of_all_is_learned_with_the_decay() -> None:
    mask = {"w": True, "b": False}
    for decay in (0.0, 0.1):
        adapter.momo(mask=mask, weight_decay=decay)
    adapter.momo(mask=mask, adapt_lower_bound=True)
    with pytest.raises(ValueError, match=r"`momo\(mask=...\)` must be None where numbers of all parameters"):
        adapter.momo(mask=mask, adapt_lower_bound=True, weight_decay=0.1)
