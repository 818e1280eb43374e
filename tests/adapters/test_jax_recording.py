"""Runs of optax transformations, recorded inside and outside of `jit`."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

import scirs2_adapters as s2
from scirs2_adapters import jax as adapter
from scirs2_adapters.drift import compare

PARAMS = {"dense": {"kernel": jnp.linspace(-1, 1, 12).reshape(4, 3), "bias": jnp.ones(3)}}


def ran(folder: Path, tx: optax.GradientTransformation, *, jit: bool = True, **options: object) -> None:
    tx, params = s2.record(tx, folder, **options), PARAMS

    def step(params: object, state: object, size: float) -> tuple[object, object]:
        return adapter.step(tx, jax.tree.map(lambda p: size * jnp.sin(9 * p), params), state, params)

    step, opt_state = jax.jit(step) if jit else step, tx.init(params)
    for i in range(4):
        params, opt_state = step(params, opt_state, 1e-4 + 1e-5 * i)
    jax.effects_barrier()


@pytest.mark.parametrize("jit", [True, False])
def test_ours_and_optax_s_do_not_differ(jit: bool, tmp_path: Path) -> None:
    schedule = optax.linear_schedule(1e-2, 1e-3, 10)
    ran(tmp_path / "a", adapter.adamw(schedule), jit=jit)
    ran(
        tmp_path / "b",
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-2)),
        rule="adamw",
    )
    drift = compare(tmp_path / "a", tmp_path / "b")
    assert (drift.steps, drift.step) == (4, None)


def test_the_rate_of_a_schedule_and_another_eps_are_named(tmp_path: Path) -> None:
    rate = optax.linear_schedule(1e-2, 1e-3, 10)
    ran(tmp_path / "a", adapter.adam(rate))
    ran(tmp_path / "b", adapter.adam(lambda count: rate(jnp.maximum(count - 1, 0))))
    drift = compare(tmp_path / "a", tmp_path / "b")
    assert (drift.step, drift.quantity) == (2, "learning_rate")
    assert "one step late" in drift.explanations[0]
    ran(tmp_path / "c", adapter.rmsprop(1e-2))
    ran(tmp_path / "d", optax.rmsprop(1e-2, decay=0.99))
    drift = compare(tmp_path / "c", tmp_path / "d")
    assert (drift.step, drift.quantity) == (1, "param")
    assert "adds eps under the root" in drift.explanations


def test_without_parameters_a_step_is_refused(tmp_path: Path) -> None:
    tx = s2.record(adapter.adam(1e-2), tmp_path / "a")
    with pytest.raises(ValueError, match="must be the parameters"):
        tx.update(PARAMS, tx.init(PARAMS))
