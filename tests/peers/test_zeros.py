"""What formulas with `match="optax"` make of first gradients of zero and of a learning rate of zero: what optax does,
which others do not.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import scirs2_adapters as s2
from scirs2_adapters.core import HostOptimizer

START = np.linspace(-1, 1, 6).reshape(3, 2)
GRADS = np.random.default_rng(5).normal(size=(6, 3, 2))
#: The steps that have no gradient; after the first, of which optax makes NaN, they have a learning rate of zero.
OUT = (0, 1, 4)
RATES = jnp.where(jnp.isin(jnp.arange(len(GRADS)), jnp.array(OUT[1:])), 0.0, 0.5)
FIRST = {"prodigy": {"estim_lr0": 2.0**-4}, "dadaptadamw": {"estim_lr0": 2.0**-4}}


def rate(count: int) -> float:
    return float(RATES[count])


def of_optax(tx: optax.GradientTransformation, grads: np.ndarray) -> np.ndarray:
    params = jnp.asarray(START)
    state = tx.init(params)
    for g in grads:
        updates, state = tx.update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params)


def ours(name: str, match: str | None, grads: np.ndarray, learning_rate: object, **hyper: float) -> np.ndarray:
    params = [START.copy()]
    rule = s2.get(name)(match=match, **hyper)
    optimizer = HostOptimizer(rule, params, kernel="traced", learning_rate=learning_rate)  # type: ignore[arg-type]
    for g in grads:
        optimizer.step([g])
    return params[0]


def test_novograd_begins_at_the_first_step_in_optax_and_at_the_first_gradient_elsewhere() -> None:
    grads = GRADS * ~np.isin(np.arange(len(GRADS)), OUT)[:, None, None]
    with jax.enable_x64(True):
        wanted = of_optax(optax.novograd(0.1), grads)
    walks = {match: ours("novograd", match, grads, 0.1, beta1=0.9, beta2=0.25, eps=1e-6) for match in ("optax", None)}
    np.testing.assert_allclose(walks["optax"], wanted, rtol=1e-12)
    assert np.abs(walks[None] - wanted).max() > 1e-3


@pytest.mark.parametrize("name", sorted(FIRST))
def test_a_learning_rate_of_zero_stops_what_is_learned_elsewhere_than_in_optax(name: str) -> None:
    theirs = {"prodigy": optax.contrib.prodigy, "dadaptadamw": optax.contrib.dadapt_adamw}[name]
    with jax.enable_x64(True):
        wanted = of_optax(theirs(lambda count: RATES[count], **FIRST[name]), GRADS)
    walks = {
        match: ours(name, match, GRADS, rate, d0=FIRST[name]["estim_lr0"], use_bias_correction=True)
        for match in ("optax", None)
    }
    np.testing.assert_allclose(walks["optax"], wanted, rtol=1e-6)
    assert np.abs(walks[None] - wanted).max() > 1e-3
