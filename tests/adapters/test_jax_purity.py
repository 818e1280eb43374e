"""Pure functions of their inputs: nothing is cached, changed, recompiled or remembered that is not in the state."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scirs2_adapters
from scirs2_adapters import jax as adapter

from .jax_support import KERNEL, PATHS, STEPS, flat, gap, gradients, kinds, one_call, same_bits, tree, two_calls, walk

each_path = pytest.mark.parametrize("path", PATHS)
each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())
each_kernel = pytest.mark.parametrize("name", KERNEL)


@each_rule
def test_the_state_keeps_its_kinds_and_nothing_is_compiled_twice(name: str) -> None:
    tx, params = getattr(adapter, name)(), tree(0)
    state, jitted = tx.init(params), jax.jit(two_calls(tx))
    wanted = jax.tree.structure(state), kinds(state)
    assert (jax.tree.structure(made := jax.jit(tx.init)(params)), kinds(made)) == wanted
    for step in (jitted, jitted, two_calls(tx), one_call(tx)):
        params, state = step(tree(1), state, params)
        assert (jax.tree.structure(state), kinds(state)) == wanted
        assert kinds(params) == kinds(tree(0))
    assert jitted._cache_size() == 1


def rounded_once_more(reached: Any, wanted: Any, start: Any, way: float) -> None:
    """A change that is stored and then added is rounded once more in each step: by half a unit of the numbers' last
    place, which large parameters with small steps feel, and what follows from that is little beside the way.
    """
    for a, b, c in zip(*map(jax.tree.leaves, (reached, wanted, start)), strict=True):
        unit = np.spacing(np.maximum(np.abs(b), np.abs(c)))
        assert np.all(np.abs(a - b) <= STEPS * unit + 2e-6 * way)


@each_rule
def test_step_is_update_and_apply(name: str) -> None:
    tx, start = getattr(adapter, name)(), tree(0)
    first = walk(one_call(tx), tx.init(start), start, gradients())
    second = walk(two_calls(tx), tx.init(start), start, gradients())
    assert kinds(first) == kinds(second)
    rounded_once_more(first[0], second[0], start, float(np.linalg.norm(flat(second[0]) - flat(start))))
    assert gap(first[1], second[1], jax.tree.map(jnp.zeros_like, second[1])) < 2e-6


@each_rule
def test_coefficients_are_computed_once_however_many_leaves_there_are(name: str) -> None:
    def powers(leaves: int) -> int:
        tx, params = getattr(adapter, name)(kernel="traced"), {f"p{i}": jnp.ones((3 + i, 2)) for i in range(leaves)}
        text = str(jax.make_jaxpr(one_call(tx))(params, tx.init(params), params))
        return len(re.findall(r":f32\[\] = (?:exp|exp2|expm1|log|log1p|pow|integer_pow)\b", text))

    assert powers(4) == powers(1)


def test_step_takes_any_transformation() -> None:
    start, tx = tree(0), optax.chain(optax.adam(1e-2), optax.trace(0.5))
    reached = walk(one_call(tx), tx.init(start), start, gradients())
    assert same_bits(reached, walk(two_calls(tx), tx.init(start), start, gradients()))


def test_step_hands_extra_arguments_on_to_whom_they_concern() -> None:
    seen: list[float] = []
    update = lambda g, s, p=None, *, value: (seen.append(value), (g, s))[1]  # noqa: E731
    curious = optax.GradientTransformationExtraArgs(lambda p: optax.EmptyState(), update)
    params, grads = {"w": jnp.ones(3)}, {"w": jnp.ones(3)}
    for tx in (curious, optax.chain(adapter.adamw(), curious), optax.chain(curious, adapter.adamw())):
        adapter.step(tx, grads, tx.init(params), params, value=0.25)
    assert seen == [0.25] * 3


@each_kernel
def test_both_paths_agree(name: str) -> None:
    start, walks = tree(0), []
    for path in PATHS:
        tx = getattr(adapter, name)(kernel=path)
        walks.append(walk(one_call(tx), tx.init(start), start, gradients()))
    assert jax.tree.structure(walks[0]) == jax.tree.structure(walks[1])
    assert gap(walks[0][0], walks[1][0], start) < 1e-4
    assert gap(walks[0][1], walks[1][1], jax.tree.map(jnp.zeros_like, walks[1][1])) < 2e-6


@each_path
def test_inputs_are_left_alone_and_the_same_call_gives_the_same_bits(path: str) -> None:
    tx, params, grads = adapter.adamw(kernel=path), tree(0), tree(1)
    state = tx.init(params)
    before = jax.tree.map(np.array, (params, state, grads))
    results = [f(grads, state, params) for f in (one_call(tx), jax.jit(one_call(tx))) for _ in range(2)]
    assert same_bits(results[0], results[1])
    assert same_bits(results[2], results[3])
    assert same_bits(jax.tree.map(jnp.asarray, before), (params, state, grads))


@each_kernel
def test_donated_memory_is_stepped_in_place(name: str) -> None:
    tx = getattr(adapter, name)(kernel="host")
    params = {f"p{i}": jnp.ones((100, 100)) for i in range(4)}
    state, grads = jax.tree.map(jnp.array, tx.init(params)), jax.tree.map(jnp.ones_like, params)
    # JAX pairs donated arguments with results of their shape in order, so they are taken in the order they are returned
    jitted = jax.jit(lambda params, state, grads: adapter.step(tx, grads, state, params), donate_argnums=(0, 1))
    used = jitted.lower(params, state, grads).compile().memory_analysis()
    assert used.temp_size_in_bytes < 40_000
    large = lambda t: [x.unsafe_buffer_pointer() for x in jax.tree.leaves(t) if x.size > 1]  # noqa: E731
    before = large((params, state))
    assert large(jitted(params, state, grads)) == before


def test_no_two_leaves_of_a_state_share_memory() -> None:
    params = tree(0)
    for name in scirs2_adapters.names():
        places = [
            x.unsafe_buffer_pointer()
            for x in jax.tree.leaves((params, getattr(adapter, name)().init(params)))
            if x.size
        ]
        assert len(set(places)) == len(places), name


def test_a_transformation_is_hashable_and_costs_no_device_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in scirs2_adapters.names():
        with jax.transfer_guard("disallow"):
            tx = getattr(adapter, name)()
        assert hash(tx) == hash(tx)
        assert isinstance(tx, optax.GradientTransformationExtraArgs)


def test_equal_transformations_share_what_is_compiled_outside_jit() -> None:
    params, grads = tree(0), tree(1)
    adapter.adamw(2e-3).update(grads, adapter.adamw().init(params), params)
    with jax.log_compiles(False), jax.checking_leaks():
        from scirs2_adapters.adapters.jax.dispatch.step import compiled

        before = compiled._cache_size()
        adapter.adamw(2e-3).update(grads, adapter.adamw().init(params), params)
        assert compiled._cache_size() == before


def test_no_traced_value_leaks() -> None:
    params, grads = tree(0), tree(1)
    with jax.checking_leaks():

        @jax.jit
        def train(rate: jax.Array) -> jax.Array:
            tx = adapter.adamw(lambda count: rate / (1 + count))
            return one_call(tx)(grads, tx.init(params), params)[0]

        train(1e-3)
        train(1e-2)


def test_step_without_parameters_says_so_and_so_does_update_where_they_are_needed() -> None:
    params, grads = tree(0), tree(1)
    for name in ("adamw", "lamb", "lion", "prodigy"):
        tx = getattr(adapter, name)(weight_decay=0.1)
        with pytest.raises(ValueError, match="not passing `params`"):
            tx.update(grads, tx.init(params))
    tx = adapter.adam()
    updates, _ = tx.update(grads, tx.init(params))
    assert same_bits(updates, tx.update(grads, tx.init(params), params)[0])
