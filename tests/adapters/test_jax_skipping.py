"""`skip_nonfinite=True`: a step with a gradient that is not finite leaves everything as it was, and is counted."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scirs2_adapters
from scirs2_adapters import jax as adapter
from tests.boundaries.support import fresh
from tests.conformance.options import still_steps
from tests.sampling import taken
from tests.xla import flags

from .jax_support import (
    KERNEL,
    PATHS,
    SMALL,
    begun,
    gap,
    lively,
    one_call,
    same_bits,
    shapes,
    small,
    steps_alike,
    takes_complex,
    two_calls,
)

each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())
each_path = pytest.mark.parametrize("path", ["auto", *PATHS])
#: The step, where its gradient is not finite, and what stands there.
BAD = {1: ("w", jnp.nan), 2: ("b", jnp.inf), 4: ("w", -jnp.inf)}
Tree = Any


def gradients() -> list[Tree]:
    """Six, of which three have one element each that is not finite."""
    made = [small(100 + i) for i in range(6)]
    for i, (k, value) in BAD.items():
        made[i][k] = made[i][k].at[..., -1].set(value)
    return made


@each_rule
@pytest.mark.parametrize("form", [one_call, two_calls])
def test_a_walk_is_that_of_the_finite_gradients_alone(name: str, form: Any) -> None:
    """And, in numbers and counts, that of `optax.apply_if_finite` around the same optimizer."""
    tx, plain = getattr(adapter, name)(1e-2, skip_nonfinite=True), getattr(adapter, name)(1e-2)
    around = optax.apply_if_finite(plain, 1 << 30)
    step, theirs = jax.jit(form(tx)), jax.jit(two_calls(around))
    params, state = SMALL, tx.init(SMALL)
    expected, wanted = SMALL, around.init(SMALL)
    for i, g in enumerate(gradients()):
        before = params, state.inner_state
        params, state = step(g, state, params)
        expected, wanted = theirs(g, wanted, expected)
        assert same_bits((params, state.inner_state), before) == (i in BAD)
        assert bool(state.last_finite) == (i not in BAD)
    assert shapes(state) == shapes(wanted) == shapes(tx.init(SMALL))
    counts = [(int(s.notfinite_count), int(s.total_notfinite)) for s in (state, wanted)]
    assert counts == [(0, len(BAD))] * 2
    if form is two_calls:
        assert same_bits((params, state), (expected, wanted))
    assert gap(params, expected, SMALL) < 1e-5


@each_rule
def test_it_is_stepped_through_whatever_stands_around_it(name: str) -> None:
    """Trees, shapes and dtypes stay, and JAX finds both branches alike, while it is traced."""
    tx = lively(name, skip_nonfinite=True)
    other = jnp.complex64 if takes_complex(name, SMALL["w"].shape) else jnp.float16
    mixed = {"h": SMALL["w"].astype(jnp.bfloat16), "c": SMALL["w"].astype(other), "w": SMALL["w"]}
    for params in (SMALL, mixed, {}, {"w": SMALL["w"], "hole": None}):
        steps_alike(tx, params, params)
    for wrapped in (optax.MultiSteps(tx, 2), optax.chain(optax.clip_by_global_norm(1.0), tx), optax.masked(tx, True)):
        steps_alike(wrapped, SMALL, SMALL)
    injected = optax.inject_hyperparams(getattr(adapter, name))(1e-2, skip_nonfinite=True)
    steps_alike(injected, SMALL, SMALL)
    assert isinstance(injected.init(SMALL).inner_state, optax.ApplyIfFiniteState)


@each_rule
def test_a_batch_of_steps_leaves_out_those_that_are_not_finite(name: str) -> None:
    tx, trees = getattr(adapter, name)(1e-2, skip_nonfinite=True), [small(1), small(2)]
    trees[1]["b"] = trees[1]["b"] * jnp.nan
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *trees)
    step = jax.jit(jax.vmap(one_call(tx), in_axes=(0, None, None)))
    params, state = step(stacked, begun(name, tx, SMALL, trees[0]), SMALL)
    assert state.total_notfinite.tolist() == [0, 1]
    assert same_bits(jax.tree.map(lambda x: x[1], params), SMALL)
    assert not same_bits(jax.tree.map(lambda x: x[0], params), SMALL)


@each_rule
def test_derivatives_are_finite_also_of_a_step_that_is_left_out(name: str) -> None:
    tx = getattr(adapter, name)(1e-2, skip_nonfinite=True)

    def loss(params: Tree, bad: Any) -> Any:
        grads = {**params, "b": params["b"] + jnp.where(bad, jnp.inf, 0.0)}
        new, _ = one_call(tx)(grads, tx.init(SMALL), params)
        return sum(jnp.sum(x * x) for x in jax.tree.leaves(new))

    slope = jax.jit(jax.grad(loss))
    assert same_bits(slope(SMALL, True), jax.tree.map(lambda x: 2 * x, SMALL))
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(slope(SMALL, False)))


@each_path
def test_a_scan_leaves_out_the_same_steps(path: str) -> None:
    tx = adapter.adamw(1e-2, skip_nonfinite=True, kernel=path)
    start, stacked = (SMALL, tx.init(SMALL)), jax.tree.map(lambda *x: jnp.stack(x), *gradients())
    body = lambda carry, g: (one_call(tx)(g, carry[1], carry[0]), None)  # noqa: E731
    params, state = jax.jit(lambda c: jax.lax.scan(body, c, stacked)[0])(start)
    looped = start
    for g in gradients():
        looped = one_call(tx)(g, looped[1], looped[0])
    assert int(state.total_notfinite) == len(BAD)
    assert gap(params, looped[0], SMALL) < 1e-6


@pytest.mark.parametrize("name", KERNEL)
def test_donated_memory_is_stepped_in_place_and_the_gradients_are_not_written_out(name: str) -> None:
    """Temporaries stay below one leaf: both branches work where parameters and state are."""
    tx, shape = getattr(adapter, name)(skip_nonfinite=True), jax.ShapeDtypeStruct((1 << 20,), jnp.float32)
    state = jax.eval_shape(tx.init, shape)
    step = jax.jit(lambda p, s, g: one_call(tx)(g, s, p), donate_argnums=(0, 1))
    memory = step.lower(shape, state, shape).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 1 << 20


def test_clipping_before_it_is_seen_through_and_sees_what_is_not_finite() -> None:
    """A norm of infinity makes NaN of the gradients that are clipped by it."""
    tx = optax.chain(optax.clip_by_global_norm(1.0), adapter.adamw(1e-2, skip_nonfinite=True))
    ends = []
    for form in (one_call, two_calls):
        params, state = SMALL, tx.init(SMALL)
        for g in gradients():
            params, state = jax.jit(form(tx))(g, state, params)
        assert int(state[1].total_notfinite) == len(BAD)
        ends.append(params)
    assert gap(*ends, SMALL) < 1e-5
    assert "the host kernel" in adapter.explain(tx, SMALL)


def test_accumulated_gradients_are_left_out_together() -> None:
    tx = optax.MultiSteps(adapter.adamw(1e-2, skip_nonfinite=True), 2)
    params, state = SMALL, tx.init(SMALL)
    for g in (gradients()[1], gradients()[0]):
        params, state = jax.jit(two_calls(tx))(g, state, params)
    assert same_bits(params, SMALL)
    assert int(state.inner_opt_state.total_notfinite) == 1


def test_a_checkpoint_of_optaxs_wrapper_goes_on_here_and_back() -> None:
    grads, ends = gradients(), []
    theirs = optax.apply_if_finite(optax.adamw(1e-2), 1 << 30)
    ours = adapter.adamw(1e-2, match="optax", skip_nonfinite=True)
    for first, second in ((theirs, ours), (ours, theirs), (ours, ours)):
        params, state = SMALL, first.init(SMALL)
        for i, g in enumerate(grads):
            params, state = two_calls(first if i < 3 else second)(g, state, params)
        ends.append(params)
        assert int(state.total_notfinite) == len(BAD)
    assert all(gap(end, ends[-1], SMALL) < 3e-5 for end in ends)


def test_a_finite_complex_gradient_whose_modulus_overflows_is_finite() -> None:
    tx, p = adapter.sgd(1e-30, skip_nonfinite=True), jnp.ones(2, jnp.complex64)
    _, state = one_call(tx)(jnp.full(2, 3e38 + 3e38j, jnp.complex64), tx.init(p), p)
    assert bool(state.last_finite)
    _, state = one_call(tx)(jnp.array([1, complex(0, np.nan)], jnp.complex64), tx.init(p), p)
    assert not bool(state.last_finite)


def test_what_is_no_switch_and_the_state_without_counts_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`adamw\(skip_nonfinite=\.\.\.\)` must be True or False"):
        adapter.adamw(skip_nonfinite=3)
    tx = adapter.adamw(skip_nonfinite=True)
    with pytest.raises(TypeError, match=r"`adamw\(state=\.\.\.\)` must be as `init` makes it: `skip_nonfinite=True`"):
        tx.update(SMALL, adapter.adamw().init(SMALL), SMALL)


DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from scirs2_adapters import jax as adapter
from scirs2_adapters import get
from scirs2_adapters.adapters.jax.argument_names import argument_names
from tests.conformance.cells import by_rows
from tests.conformance.options import learned
mesh, whole, part = Mesh(np.array(jax.devices()), ("x",)), P(), P("x")
params, bad = {"w": jnp.ones((4, 3)), "b": jnp.ones(4)}, {"w": jnp.ones((4, 3)).at[3, 0].set(jnp.nan), "b": jnp.ones(4)}
split = lambda tree: jax.device_put(tree, NamedSharding(mesh, part))
for name in NAMES:
    rule = get(name)
    first = argument_names(rule).to_framework(learned(rule), rule.fields_with())
    alone, told = (getattr(adapter, name)(**first, skip_nonfinite=True, axis_name=axis) for axis in (None, "x"))
    def step(tx):
        return lambda p, s, g: adapter.step(tx, g, s, p)
    state = alone.init(split(params))
    for grads, left_out in ((bad, 1), (params, 0)):
        new, after = jax.jit(step(alone))(split(params), state, split(grads))
        assert int(after.total_notfinite) == left_out, name
        assert left_out == np.array_equal(new["b"], params["b"]), name
        assert new["b"].sharding.is_equivalent_to(split(params)["b"].sharding, 1), name
        like = jax.tree.map(lambda x: part if x.ndim and x.shape[0] == 4 else whole, state)
        f = jax.shard_map(step(told), mesh=mesh, in_specs=(part, like, part), out_specs=(part, like))
        try:
            new, after = jax.jit(f)(params, alone.init(params), grads)
        except ValueError as error:
            assert by_rows(name) and "axis_name" in str(error), error
            continue
        assert int(after.total_notfinite) == left_out, name
        assert left_out == np.array_equal(new["b"], params["b"]), name
"""


@pytest.mark.slow
def test_on_several_devices_all_leave_out_the_same_steps(request: pytest.FixtureRequest) -> None:
    moving = [name for name in scirs2_adapters.names() if not still_steps(name)]
    fresh(f"NAMES = {taken(request, moving)}\n{DEVICES}", XLA_FLAGS=flags(2))
