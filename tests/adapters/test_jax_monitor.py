"""`monitor(tx)`: the numbers of a step come out of the state, and the steps are those of `tx`."""

from __future__ import annotations

import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scirs2_adapters as s2
from scirs2_adapters import jax as adapter
from scirs2_adapters import monitor
from scirs2_adapters.adapters.jax.argument_names import factory_name

PARAMS = {"w": jnp.linspace(-1, 1, 12).reshape(4, 3), "b": jnp.ones(3)}


def grads(i: int) -> Any:
    keys = jax.random.split(jax.random.key(i), 2)
    return {k: jax.random.normal(key, p.shape) for key, (k, p) in zip(keys, PARAMS.items(), strict=True)}


def plain_step(tx: Any, g: Any, state: Any, params: Any) -> Any:
    updates, state = tx.update(g, state, params)
    return optax.apply_updates(params, updates), state


def walk(tx: Any, step: Any, steps: int = 4) -> tuple[Any, Any]:
    params, state, run = PARAMS, tx.init(PARAMS), jax.jit(lambda *a: step(tx, *a))
    for i in range(steps):
        params, state = run(grads(i), state, params)
    return params, state


@pytest.mark.parametrize("step", [adapter.step, plain_step], ids=["step", "update"])
@pytest.mark.parametrize("name", s2.names())
def test_it_changes_no_bit(name: str, step: Any) -> None:
    tx = getattr(adapter, factory_name(name))()
    watched = monitor(tx, every=2)
    expected, (params, state) = walk(tx, step), walk(watched, step)
    jax.tree.map(np.testing.assert_array_equal, (params, state.inner_state), expected)
    record = watched.take(state)
    assert (record.step, record.optimizer, record.skipped_steps) == (4, s2.get(name).__name__, 0)
    assert record.groups[0].learning_rate > 0
    assert record.state_bytes == sum(x.nbytes for x in jax.tree.leaves(expected[1]))


@pytest.mark.parametrize("step", [adapter.step, plain_step], ids=["step", "update"])
def test_the_numbers_are_those_of_the_step(step: Any) -> None:
    rate = optax.linear_schedule(0.5, 0.1, 4)
    tx = monitor(optax.chain(optax.clip_by_global_norm(1e6), adapter.sgd(rate)), every=3)
    _, state = walk(tx, step)
    record, g = tx.take(state), grads(2)
    size = float(optax.tree.norm(g))
    assert (record.step, record.seconds, record.optimizer) == (3, None, "SGD")
    assert record.groups[0].learning_rate == pytest.approx(float(rate(2)))
    assert record.gradient_norm == pytest.approx(size, rel=1e-5)
    assert record.update_norm == pytest.approx(float(rate(2)) * size, rel=1e-5)
    assert record.parameter_norm == pytest.approx(float(optax.tree.norm(walk(tx, step, 3)[0])), rel=1e-5)
    assert tx.take(state) is None
    assert list(tx.monitor.records) == [record]


def test_before_the_first_record_there_is_none() -> None:
    tx = monitor(adapter.adamw(), every=2)
    assert tx.take(tx.init(PARAMS)) is None
    assert not tx.monitor.records


def test_what_is_not_finite_is_counted() -> None:
    tx = monitor(adapter.adamw(skip_nonfinite=True), every=1)
    bad = {"w": PARAMS["w"].at[0].set(jnp.nan), "b": PARAMS["b"].at[0].set(jnp.inf)}
    _, state = adapter.step(tx, bad, tx.init(PARAMS), PARAMS)
    record = tx.take(state)
    assert (record.nonfinite_gradients, record.skipped_steps, record.update_norm) == (4, 1, 0.0)


def test_a_transformation_of_optax_is_watched_too_and_a_chain_around_is() -> None:
    tx = monitor(optax.adam(1e-3), every=1)
    outer = optax.chain(optax.clip(1.0), tx)
    _, state = walk(outer, plain_step, 1)
    record = tx.take(state)
    assert (record.step, record.groups[0].learning_rate) == (1, None)
    assert isinstance(tx, optax.GradientTransformationExtraArgs)


def test_steps_that_are_not_measured_work_in_the_memory_of_the_parameters() -> None:
    tx = monitor(adapter.adamw(kernel="host"), every=1000)
    run = jax.jit(lambda g, s, p: adapter.step(tx, g, s, p), donate_argnums=(1, 2))
    ones = {"w": jnp.ones(1 << 16)}
    args = jax.tree.map(jnp.array, (ones, tx.init(ones), ones))
    alone = jax.jit(lambda g, s, p: adapter.step(adapter.adamw(kernel="host"), g, s, p), donate_argnums=(1, 2))
    inner = (args[0], args[1].inner_state, args[2])
    sizes = [f.lower(*a).compile().memory_analysis().temp_size_in_bytes for f, a in ((run, args), (alone, inner))]
    # Of the branch that measures: the parameters before. The XLA of JAX 0.9 and older keeps two copies more.
    copies = 2 if jax.__version_info__ >= (0, 10) else 4
    assert sizes[0] - sizes[1] <= copies * args[2]["w"].nbytes


@pytest.mark.parametrize("other", [(1, 2), "state"], ids=["tuple", "state"])
def test_what_is_no_transformation_is_refused(other: Any) -> None:
    other = adapter.adamw().init(PARAMS) if other == "state" else other
    with pytest.raises(TypeError, match=r"`monitor\(optimizer=...\)` must be an optax transformation"):
        monitor(other)


def test_another_state_is_refused() -> None:
    tx = monitor(adapter.adamw())
    with pytest.raises(TypeError, match=r"`take\(state=...\)` must be a state of this transformation"):
        tx.take(adapter.adamw().init(PARAMS))
    with pytest.raises(TypeError, match=r"`monitor\(state=...\)` must be as `init` makes it"):
        tx.update(PARAMS, adapter.adamw().init(PARAMS), PARAMS)
    assert jax.tree.structure(pickle.loads(pickle.dumps(tx.init(PARAMS)))) == jax.tree.structure(tx.init(PARAMS))
