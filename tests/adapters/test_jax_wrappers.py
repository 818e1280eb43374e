"""optax's wrappers and JAX's transformations around ours, through both paths."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scirs2_adapters
from scirs2_adapters import jax as adapter

from .jax_support import (
    PATHS,
    SMALL,
    gap,
    gradients,
    kinds,
    one_call,
    same_bits,
    shapes,
    steps_alike,
    tree,
    two_calls,
    walk,
)

each_path = pytest.mark.parametrize("path", ["auto", *PATHS])
each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())


MATCHES = [(n, m) for n in scirs2_adapters.names() for m in (None, *scirs2_adapters.get(n).matches)]


@pytest.mark.parametrize(("name", "match"), MATCHES, ids=[f"{n}-{m}" for n, m in MATCHES])
def test_injected_hyperparameters_are_the_static_ones(name: str, match: str | None) -> None:
    start = tree(0)
    plain = getattr(adapter, name)(1e-2, match=match)
    injected = optax.inject_hyperparams(getattr(adapter, name))(1e-2, match=match)
    wanted, _ = walk(two_calls(plain), plain.init(start), start, gradients())
    state = injected.init(start)
    reached, after = walk(two_calls(injected), state, start, gradients())
    assert gap(reached, wanted, start) < 1e-4
    assert kinds(after) == kinds(state)


def test_an_argument_that_was_given_is_not_replaced_by_what_match_has() -> None:
    make = functools.partial(adapter.adamw, weight_decay=0.5)
    for tx in (
        optax.inject_hyperparams(adapter.adamw)(1e-2, weight_decay=0.5, match="optax"),
        optax.inject_hyperparams(make)(1e-2, match="optax"),
    ):
        assert float(tx.init(jnp.ones(3)).hyperparams["weight_decay"]) == 0.5


def test_a_wrappers_arguments_are_injected_with_those_of_its_base() -> None:
    tx = optax.inject_hyperparams(adapter.lookahead)(1e-2, base="lion", b1=0.5)
    plain = adapter.lookahead(1e-2, base="lion", b1=0.5)
    wanted, reached = (walk(two_calls(t), t.init(SMALL), SMALL, [SMALL] * 3)[0] for t in (plain, tx))
    assert gap(reached, wanted, SMALL) < 1e-4
    assert float(tx.init(SMALL).hyperparams["b1"]) == 0.5


@pytest.mark.parametrize(
    "options", [{"mu_dtype": jnp.bfloat16}, {"state_dtype": jnp.bfloat16}, {"state_dtype": {"mu": jnp.bfloat16}}]
)
def test_a_dtype_is_no_schedule_though_it_can_be_called(options: dict) -> None:
    state = optax.inject_hyperparams(adapter.adamw)(1e-2, **options).init(SMALL)
    assert optax.tree.get(state, "mu")["w"].dtype == jnp.bfloat16


@each_path
def test_an_injected_learning_rate_takes_effect_without_recompilation(path: str) -> None:
    tx, params = optax.inject_hyperparams(adapter.adamw)(1e-2, kernel=path), tree(0)
    state, jitted = tx.init(params), jax.jit(two_calls(tx))
    first, state = jitted(tree(1), state, params)
    state.hyperparams["learning_rate"] = jnp.zeros_like(state.hyperparams["learning_rate"])
    second, state = jitted(tree(1), state, first)
    assert same_bits(first, second)
    assert jitted._cache_size() == 1


@each_path
def test_an_injected_schedule_is_followed(path: str) -> None:
    start = tree(0)
    wanted, _ = walk(
        two_calls(tx := adapter.adamw(lambda c: 1e-2 / (c + 1), kernel=path)), tx.init(start), start, gradients()
    )
    tx = optax.inject_hyperparams(adapter.adamw)(lambda c: 1e-2 / (c + 1), kernel=path)
    assert gap(walk(two_calls(tx), tx.init(start), start, gradients())[0], wanted, start) < 1e-4


@each_path
def test_masked_leaves_are_let_through(path: str) -> None:
    params, mask = tree(0), {"w": True, "b": False, "s": True, "t": False, "e": True}
    for make in (adapter.adamw, adapter.lookahead):
        tx = optax.masked(make(kernel=path), mask)
        updates, state = jax.jit(tx.update)(tree(1), tx.init(params), params)
        assert same_bits(updates["b"], tree(1)["b"])
        assert not np.allclose(updates["w"], tree(1)["w"])
        assert jax.tree.structure(state) == jax.tree.structure(tx.init(params))


@each_path
def test_labels_choose_between_ours_and_optaxs(path: str) -> None:
    params = tree(0)
    labels = {"w": "ours", "b": "theirs", "s": "ours", "t": "ours", "e": "theirs"}
    tx = optax.partition({"ours": adapter.lion(kernel=path), "theirs": optax.sgd(1.0)}, labels)
    updates, _ = two_calls(tx)(tree(1), tx.init(params), params)
    np.testing.assert_allclose(updates["b"], params["b"] - tree(1)["b"], rtol=1e-6)
    assert float(jnp.abs(updates["w"] - params["w"]).max()) == pytest.approx(1e-4, rel=1e-2)


@each_path
def test_multi_steps_moves_at_the_last_of_them_only(path: str) -> None:
    start = tree(0)
    tx = optax.MultiSteps(adapter.adamw(kernel=path), 3)
    jitted, state, params = jax.jit(two_calls(tx)), tx.init(start), start
    for i, g in enumerate(gradients(6)):
        new, state = jitted(g, state, params)
        assert same_bits(new, params) == (i % 3 != 2)
        params = new


@each_path
@pytest.mark.parametrize("wrap", ["finite", "lookahead", "chain", "free"])
def test_wrappers_treat_ours_as_optaxs(wrap: str, path: str) -> None:
    def wrapped(tx: Any) -> Any:
        match wrap:
            case "finite":
                return optax.apply_if_finite(tx, 3)
            case "chain":
                return optax.chain(optax.clip_by_global_norm(1.0), tx, optax.add_decayed_weights(0.1))
            case "free":
                return optax.contrib.schedule_free(tx, 1e-2, b1=0.9)
            case _:
                return optax.lookahead(tx, 3, 0.5)

    start, grads = tree(0), gradients()
    if wrap == "finite":
        grads[2]["b"] = grads[2]["b"] * jnp.nan
    params = optax.LookaheadParams.init_synced(start) if wrap == "lookahead" else start
    walks = []
    for tx in (optax.adamw(1e-2), adapter.adamw(1e-2, match="optax", kernel=path)):
        walks.append(walk(two_calls(wrapped(tx)), wrapped(tx).init(params), params, grads))
    assert gap(walks[1][0], walks[0][0], params) < 1e-4
    assert jax.tree.structure(walks[1][1]) == jax.tree.structure(walks[0][1])


def with_value(tx: Any) -> Any:
    """Told what the loss is, as `reduce_on_plateau` wants it."""
    return optax.GradientTransformationExtraArgs(tx.init, functools.partial(tx.update, value=jnp.float32(1)))


def sharpness_aware(tx: Any) -> Any:
    """SAM that steps every second time, as the paper has it."""
    return optax.contrib.sam(tx, optax.chain(optax.contrib.normalize(), optax.sgd(0.05)), sync_period=2)


#: What optax puts around an optimizer, or behind it.
AROUND = {
    "finite": lambda tx: optax.apply_if_finite(tx, 3),
    "now and then": lambda tx: optax.transforms.conditionally_transform(tx, lambda step, **_: step % 2 == 0),
    "masked in time": lambda tx: optax.transforms.conditionally_mask(tx, lambda step, **_: step % 2 == 0),
    "multi": lambda tx: optax.MultiSteps(tx, 2),
    "skipping": lambda tx: optax.MultiSteps(tx, 2, should_skip_update_fn=optax.skip_not_finite),
    "free": lambda tx: optax.contrib.schedule_free(tx, 1e-2, b1=0.9),
    "mechanic": optax.contrib.mechanize,
    "plateau": lambda tx: with_value(optax.chain(tx, optax.contrib.reduce_on_plateau(patience=1, cooldown=1))),
    "sam": sharpness_aware,
    "averaged": lambda tx: optax.chain(tx, optax.ema(0.9)),
    "named": lambda tx: optax.named_chain(("before", optax.clip(0.1)), ("ours", tx)),
}


@each_rule
def test_wrappers_find_both_branches_alike(name: str) -> None:
    """A `cond` of JAX's refuses branches whose trees or dtypes differ, while it is traced."""
    for wrap in AROUND.values():
        tx = wrap(getattr(adapter, name)())
        steps_alike(tx, SMALL, SMALL)
    synced = optax.LookaheadParams.init_synced(SMALL)
    tx = optax.lookahead(getattr(adapter, name)(), 3, 0.5)
    state = jax.eval_shape(tx.init, synced)
    assert shapes(jax.eval_shape(two_calls(tx), SMALL, state, synced)) == shapes((synced, state))


@pytest.mark.parametrize("wrap", ["now and then", "masked in time", "mechanic", "plateau", "sam"])
def test_wrapped_steps_are_those_of_optaxs_own(wrap: str) -> None:
    grads, walks = [{k: g[k] for k in SMALL} for g in gradients(5)], []
    for tx in map(AROUND[wrap], (optax.adamw(1e-2), adapter.adamw(1e-2, match="optax"))):
        walks.append(walk(two_calls(tx), tx.init(SMALL), SMALL, grads))
    assert gap(walks[1][0], walks[0][0], SMALL) < 1e-4
    assert shapes(walks[1][1]) == shapes(walks[0][1])


@each_rule
def test_tree_map_params_finds_what_is_like_a_parameter(name: str) -> None:
    tx, params = getattr(adapter, name)(), tree(0)
    state = tx.init(params)
    marked = optax.tree.map_params(tx, lambda x: x * 0 + 3, state, transform_non_params=lambda x: x * 0 + 5)
    assert shapes(marked) == shapes(state)
    like = {x.shape for x in jax.tree.leaves(params) if x.ndim}
    assert all(bool((x == 3).all()) for x in jax.tree.leaves(marked) if x.shape in like)
    assert optax.tree.get(marked, "count", 5) == 5


@each_path
def test_vmap_over_everything_is_a_loop(path: str) -> None:
    tx, trees, grads = adapter.adamw(kernel=path), [tree(i) for i in range(3)], [tree(10 + i) for i in range(3)]
    stack = lambda ts: jax.tree.map(lambda *x: jnp.stack(x), *ts)  # noqa: E731
    mapped = jax.vmap(lambda p, g: one_call(tx)(g, tx.init(p), p))(stack(trees), stack(grads))
    wanted = stack([one_call(tx)(g, tx.init(p), p) for p, g in zip(trees, grads, strict=True)])
    assert gap(mapped[0], wanted[0], stack(trees)) < 1e-4


@each_path
def test_vmap_over_the_learning_rate_is_a_loop(path: str) -> None:
    params, grads, rates = tree(0), tree(1), jnp.array([1e-3, 1e-2])

    def once(rate: jax.Array) -> Any:
        tx = adapter.adamw(rate, kernel=path)
        return one_call(tx)(grads, tx.init(params), params)[0]

    mapped = jax.vmap(once)(rates)
    for i in range(2):
        assert gap(jax.tree.map(lambda x, i=i: x[i], mapped), once(rates[i]), params) < 1e-4


@each_path
@pytest.mark.parametrize("name", ["adamw", "lamb", "sgd", "rmsprop"])
def test_a_step_has_a_finite_and_right_derivative(name: str, path: str) -> None:
    params, grads = tree(0), tree(1)

    def loss(rate: jax.Array, scale: jax.Array) -> jax.Array:
        tx = getattr(adapter, name)(rate, kernel=path)
        state, p = tx.init(params), params
        for _ in range(2):
            p, state = one_call(tx)(jax.tree.map(lambda g: g * scale, grads), state, p)
        return sum(jnp.sum(x * x) for x in jax.tree.leaves(p))

    at = (jnp.float32(0.1), jnp.float32(1.0))
    slopes = jax.jit(jax.grad(loss, argnums=(0, 1)))(*at)
    assert all(np.isfinite(s) for s in slopes)
    h = 1e-2
    wanted = (loss(at[0] + h, at[1]) - loss(at[0] - h, at[1])) / (2 * h)
    assert float(slopes[0]) == pytest.approx(float(wanted), rel=2e-2)
    _, forward = jax.jvp(lambda r: loss(r, at[1]), (at[0],), (jnp.float32(1),))
    assert float(forward) == pytest.approx(float(slopes[0]), rel=1e-4)


def test_the_derivative_at_a_gradient_of_zero_is_finite() -> None:
    tx, p = adapter.adam(1e-2), jnp.ones(3)
    slope = jax.grad(lambda g: jnp.sum(one_call(tx)(g, tx.init(p), p)[0]))(jnp.zeros(3))
    assert bool(jnp.all(jnp.isfinite(slope)))


@each_path
def test_scan_cond_while_and_checkpoint_run_it(path: str) -> None:
    tx, start, grads = adapter.adamw(kernel=path), tree(0), gradients()
    wanted = walk(one_call(tx), tx.init(start), start, grads)

    @jax.jit
    def scanned(params: Any, state: Any, stacked: Any) -> Any:
        body = lambda carry, g: (jax.checkpoint(one_call(tx))(g, carry[1], carry[0]), None)  # noqa: E731
        return jax.lax.scan(body, (params, state), stacked)[0]

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *grads)
    assert gap(scanned(start, tx.init(start), stacked)[0], wanted[0], start) < 1e-5
    body = lambda i, c: jax.lax.cond(  # noqa: E731
        i >= 0, lambda: one_call(tx)(jax.tree.map(lambda x: x[i], stacked), c[1], c[0]), lambda: c
    )
    looped = jax.jit(lambda c: jax.lax.fori_loop(0, len(grads), body, c))((start, tx.init(start)))
    assert gap(looped[0], wanted[0], start) < 1e-5
