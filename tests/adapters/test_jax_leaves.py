"""Every dtype and every kind of tree: 16-bit, double, complex, mixed, abstract, empty, with holes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import scirs2_adapters
from scirs2_adapters import jax as adapter
from tests.conformance.options import PACE

from .jax_support import (
    PATHS,
    SMALL,
    gap,
    gradients,
    kinds,
    lively,
    one_call,
    same_bits,
    small,
    takes_complex,
    tree,
    two_calls,
    walk,
)

each_path = pytest.mark.parametrize("path", ["auto", *PATHS])
each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@each_path
def test_small_numbers_are_stepped_in_float32(dtype: str, path: str) -> None:
    tx, start, grads = adapter.adamw(0.1, kernel=path), tree(0, dtype), gradients(dtype=dtype)
    reached, state = walk(one_call(tx), tx.init(start), start, grads)
    wide = lambda t: jax.tree.map(lambda x: x.astype(jnp.float32), t)  # noqa: E731
    wanted, _ = walk(one_call(tx), tx.init(wide(start)), wide(start), list(map(wide, grads)))
    assert kinds(reached) == kinds(start)
    assert gap(reached, wanted, wide(start)) < (0.05 if dtype == "bfloat16" else 0.01)
    assert kinds(state) == kinds(tx.init(start))


def test_half_precision_survives_small_gradients() -> None:
    p = jnp.ones(4, jnp.float16)
    for path in PATHS:
        tx = adapter.adam(1e-2, kernel=path)
        assert bool(jnp.all(jnp.isfinite(one_call(tx)(p * 1e-3, tx.init(p), p)[0])))


@pytest.mark.parametrize("path", PATHS)
def test_doubles_agree_to_the_last_digits(path: str) -> None:
    with enable_x64(True):
        start = tree(0, jnp.float64)
        tx = adapter.adamw(1e-2, match="optax", kernel=path)
        reached, state = walk(two_calls(tx), tx.init(start), start, gradients(dtype=jnp.float64))
        wanted, _ = walk(two_calls(t := optax.adamw(1e-2)), t.init(start), start, gradients(dtype=jnp.float64))
        assert kinds(reached) == kinds(start)
        assert kinds(state) == kinds(tx.init(start))
        assert gap(reached, wanted, start) < 1e-12


FLOATS = ["float16", "bfloat16", "float32", "float64"]
#: Dtypes of a parameter and its gradient; each pair is another kernel to compile.
PAIRS = {"auto": [("float32", "bfloat16")], "traced": [(p, g) for p in FLOATS for g in FLOATS]}


@each_rule
@pytest.mark.parametrize(("path", "pairs"), PAIRS.items(), ids=PAIRS)
def test_whatever_dtypes_meet_an_update_is_as_good_as_a_step(name: str, path: str, pairs: list[Any]) -> None:
    """The change has the parameter's dtype or the gradient's, the wider one, and is of no coarser numbers than that."""
    with enable_x64(True):
        params = {f"{p} {g}": SMALL["w"].astype(p) for p, g in pairs}
        grads = {f"{p} {g}": small(1)["w"].astype(g) for p, g in pairs}
        tx = lively(name, learning_rate=PACE, kernel=path, state_dtype="bfloat16" if path == "traced" else None)
        state = tx.init(params)
        (updates, after), (stepped, also) = jax.jit(lambda *args: (tx.update(*args), one_call(tx)(*args)))(
            grads, state, params
        )
        assert {k: u.dtype for k, u in updates.items()} == {k: jnp.promote_types(*k.split()) for k in params}
        assert kinds(after) == kinds(also) == kinds(state)
        assert kinds(stepped) == kinds(params)
        for k, p in params.items():
            off = np.abs(np.asarray(stepped[k], float) - np.asarray(optax.apply_updates(p, updates[k]), float))
            assert np.max(off) <= float(jnp.finfo(p.dtype).eps) * float(jnp.max(jnp.abs(p))), k


@each_rule
def test_complex_numbers_are_two_real_ones(name: str) -> None:
    rng = np.random.default_rng(0)
    p, g = (jnp.asarray(rng.standard_normal(6) + 1j * rng.standard_normal(6), jnp.complex64) for _ in range(2))
    tx = getattr(adapter, name)()
    if not takes_complex(name, p.shape):
        with pytest.raises(ValueError, match="must have real parameters"):
            one_call(tx)(g, tx.init(p), p)
        return
    reached, state = jax.jit(one_call(tx))(g, tx.init(p), p)
    assert reached.dtype == jnp.complex64
    assert kinds(state) == kinds(tx.init(p))
    halves = jnp.stack([p.real, p.imag]), jnp.stack([g.real, g.imag])
    if name in ("adam", "adamw", "lion", "rmsprop", "sgd", "lookahead"):
        wanted, _ = one_call(tx)(halves[1], tx.init(halves[0]), halves[0])
        np.testing.assert_allclose(jnp.stack([reached.real, reached.imag]), wanted, rtol=1e-6)


@each_rule
@each_path
@pytest.mark.parametrize("empty", [{}, [], (), None, optax.MaskedNode(), {"a": None}])
def test_a_tree_without_leaves_is_stepped(name: str, path: str, empty: Any) -> None:
    tx = getattr(adapter, name)(kernel=path)
    state = tx.init(empty)
    params, new = jax.jit(one_call(tx))(empty, state, empty)
    assert jax.tree.structure(params) == jax.tree.structure(empty)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert jax.tree.structure(tx.update(empty, state, empty)[0]) == jax.tree.structure(empty)


@each_path
def test_holes_in_parameters_are_let_through_and_holes_in_gradients_freeze(path: str) -> None:
    params = {"a": jnp.ones(3), "hole": None, "frozen": jnp.ones(2)}
    grads = {"a": jnp.ones(3), "hole": None, "frozen": None}
    tx = adapter.adamw(kernel=path)
    state = tx.init(params)
    new, after = jax.jit(one_call(tx))(grads, state, params)
    assert new["hole"] is None
    assert same_bits(new["frozen"], params["frozen"])
    assert not np.allclose(new["a"], params["a"])
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert same_bits(after[0].mu["frozen"], state[0].mu["frozen"])
    assert tx.update(grads, state, params)[0]["frozen"] is None


@each_rule
def test_abstract_parameters_make_a_state(name: str) -> None:
    tx, params = getattr(adapter, name)(), tree(0)
    wanted = kinds(tx.init(params))
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    assert kinds(tx.init(abstract)) == wanted
    shapes = jax.eval_shape(tx.init, abstract)
    assert jax.tree.map(lambda x: f"{x.dtype}{x.shape}", shapes) == wanted


@each_path
def test_numbers_that_are_not_arrays_are_taken_as_such(path: str) -> None:
    tx, params = adapter.adamw(kernel=path), {"a": 1.0, "b": np.ones(3, np.float32)}
    state = tx.init(params)
    new, after = one_call(tx)({"a": 0.5, "b": np.ones(3, np.float32)}, state, params)
    assert new["a"].dtype == jnp.float32
    assert kinds(after) == kinds(state)


@each_path
def test_nan_and_infinity_pass_as_the_formula_says(path: str) -> None:
    tx, p = adapter.adamw(kernel=path), jnp.ones(3)
    new, _ = one_call(tx)(jnp.array([jnp.nan, jnp.inf, 1.0]), tx.init(p), p)
    assert [bool(x) for x in jnp.isnan(new)] == [True, True, False]


@pytest.mark.parametrize("state_dtype", ["bfloat16", "float16", {"exp_avg": "bfloat16"}])
def test_memory_may_be_stored_in_fewer_bits(state_dtype: Any) -> None:
    start, walks = tree(0), []
    for path in PATHS:
        tx = adapter.adamw(1e-2, state_dtype=state_dtype, kernel=path)
        walks.append(walk(one_call(tx), tx.init(start), start, gradients()))
    assert kinds(walks[0]) == kinds(walks[1])
    assert gap(walks[0][0], walks[1][0], start) < 1e-3
    assert same_bits(walks[0][1][0].count, walks[1][1][0].count)


def test_names_decide_where_the_rule_asks_for_them() -> None:
    params = {"embed": jnp.ones((4, 3)), "hidden": jnp.ones((4, 3)), "bias": jnp.ones(3)}
    state = adapter.muon().init(params)
    assert isinstance(state.slots["momentum_buffer"]["embed"], optax.MaskedNode)
    assert state.slots["momentum_buffer"]["hidden"].shape == (4, 3)
    assert state.slots["exp_avg"]["bias"].shape == (3,)
