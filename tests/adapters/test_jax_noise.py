"""Noisy SGD beside optax's: the same but for the numbers that chance has drawn, which a key of JAX's chooses there."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scirs2_adapters.jax import noisy_sgd

SIZE, STEPS = 20_000, 4
PARAMS = {"a": jnp.zeros((SIZE,)), "b": jnp.zeros((SIZE,))}


def updates(tx: optax.GradientTransformation, gradient: float) -> np.ndarray:
    """What each step adds to each leaf: (steps, leaves, elements)."""
    changes, state, grads = [], tx.init(PARAMS), jax.tree.map(lambda p: p + gradient, PARAMS)
    step = jax.jit(tx.update)
    for _ in range(STEPS):
        made, state = step(grads, state, PARAMS)
        changes.append(jax.tree.leaves(made))
    return np.array(changes, dtype=float)


def test_without_variance_it_is_optaxs() -> None:
    arguments: dict[str, Any] = {"learning_rate": 0.1, "eta": 0.0, "key": 3}
    assert np.array_equal(updates(noisy_sgd(**arguments), 0.5), updates(optax.noisy_sgd(**arguments), 0.5))


def test_mean_and_variance_of_each_step_are_optaxs() -> None:
    arguments: dict[str, Any] = {"learning_rate": 0.1, "eta": 0.3, "gamma": 0.7, "key": 3}
    ours, theirs = updates(noisy_sgd(**arguments), 0.5), updates(optax.noisy_sgd(**arguments), 0.5)
    deviations = 0.1 * np.sqrt(0.3 / np.arange(1, STEPS + 1) ** 0.7)[:, None]
    near = 5 / np.sqrt(SIZE)
    for made in (ours, theirs):
        assert np.all(np.abs(made.mean(axis=-1) + 0.05) < near * deviations)
        assert np.all(np.abs(made.std(axis=-1) / deviations - 1) < near)
    assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < near


@pytest.mark.parametrize("key", [1, jnp.int32(1)], ids=["int", "array"])
def test_another_key_is_other_noise(key: Any) -> None:
    one, other = (updates(noisy_sgd(0.1, key=k), 0.0).ravel() for k in (0, key))
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(one.size)
    assert np.array_equal(other, updates(noisy_sgd(0.1, key=1), 0.0).ravel())


@pytest.mark.parametrize("key", [jax.random.key(0), jax.random.PRNGKey(0), -1, 0.5], ids=str)
def test_what_is_no_number_for_a_key_is_refused(key: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"`noisy_sgd\(key=\.\.\.\)` must be a whole number >= 0"):
        noisy_sgd(0.1, key=key)
