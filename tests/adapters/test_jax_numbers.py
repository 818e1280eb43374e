"""Numbers that a transformation is given: traced, scheduled or plain, and what building one costs."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import Primitive
from optax._src.base import NO_PARAMS_MSG

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import argument_names
from scirs2_adapters.core import HostOptimizer
from tests.conformance.options import brisk, other, turned

from .jax_support import PATHS, SMALL, begun, gap, one_call, same_bits, small, two_calls

each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())
each_path = pytest.mark.parametrize("path", ["auto", *PATHS])
Hyper = dict[str, Any]


def numbers(name: str) -> Hyper:
    """The fields whose values may be traced, with a value each that is not the default."""
    cls = scirs2_adapters.get(name)
    fields = {k: f for k, f in cls.fields_with().items() if not f.static and f.kind in (float, int)}
    return {k: 2 * brisk(cls)[k] if k in brisk(cls) else other(f) for k, f in fields.items()}


def made(name: str, hyper: Hyper, **options: Any) -> optax.GradientTransformationExtraArgs:
    """The transformation with these arguments, by the core's names."""
    fields, words = scirs2_adapters.get(name).fields_with(), argument_names(scirs2_adapters.get(name))
    tuples = [m for m in words.tuples_of(fields).values() if hyper.keys() & {*m}]
    whole = {k: fields[k].default for members in tuples for k in members} | hyper
    return getattr(adapter, name)(**words.to_framework(whole, fields), **options)


def in_numpy(name: str, hyper: Hyper, grads: list[Any]) -> Any:
    """The core's own walk with plain numbers."""
    params = {k: np.array(x) for k, x in SMALL.items()}
    optimizer = HostOptimizer(scirs2_adapters.get(name)(**hyper), params, kernel="traced")
    for g in grads:
        optimizer.step({k: np.asarray(x) for k, x in g.items()})
    return params


@each_rule
@pytest.mark.parametrize("base", [brisk, turned])
def test_every_number_may_be_traced_and_none_leaks(name: str, base: Any) -> None:
    """One compiled walk serves every value; each is walked in plain numpy with the number written down."""
    cls, grads = scirs2_adapters.get(name), [small(i) for i in range(1, 4)]
    fields = cls.fields_with()
    start = {k: f.default for k, f in fields.items()} | base(cls)
    changed = {k: v for k, v in numbers(name).items() if start[k] or not fields[k].structural}
    for k in changed:  # None stands for what the rule computes; here it is a number from the start
        start[k] = changed[k] if start[k] in (None, float("inf")) else start[k]

    @jax.jit
    def walked(values: Hyper) -> Any:
        tx, params = made(name, {**start, **values}), SMALL
        state = tx.init(params)
        for g in grads:
            params, state = one_call(tx)(g, state, params)
        return params

    typed = {k: jnp.asarray(start[k], jnp.int32 if isinstance(start[k], int) else jnp.float32) for k in changed}
    with jax.checking_leaks():
        walked(typed)
    near = 1e-4 if name == "came" else 3e-5  # which divides by means of rows twice
    for k, value in changed.items():
        reached = walked(typed | {k: jnp.asarray(value, typed[k].dtype)})
        assert gap(reached, in_numpy(name, {**start, k: value}, grads), SMALL) < near, k
    assert walked._cache_size() == 1


@each_rule
def test_the_tree_of_the_state_follows_from_what_is_given_and_not_from_values(name: str) -> None:
    cls = scirs2_adapters.get(name)
    for base in (brisk(cls), turned(cls)):
        for k, value in numbers(name).items():
            default = cls.fields_with()[k].default
            values = [value, jnp.float32(value), *([default] if isinstance(default, float) else [])]
            trees = [jax.tree.structure(jax.eval_shape(made(name, {**base, k: v}).init, SMALL)) for v in values]
            assert len(set(trees)) == 1, k


@each_rule
def test_schedules_see_the_counts_and_have_a_place_to_count(name: str) -> None:
    """Rate and decay follow one each, also where nothing else in the state counts."""
    words = argument_names(scirs2_adapters.get(name)).names
    seen: dict[str, list[int]] = {"learning_rate": [], "weight_decay": []}
    for chosen in (["learning_rate", "weight_decay"], ["weight_decay"]):
        schedules = {words.get(k, k): lambda count, k=k: (seen[k].append(int(count)), 1e-2)[1] for k in chosen}
        tx, params = getattr(adapter, name)(**schedules), SMALL
        state = tx.init(params)
        for _ in range(3):
            _, state = tx.update(small(1), state, params)
        assert {k: seen[k][-3:] for k in chosen} == {k: [0, 1, 2] for k in chosen}
        assert all(x == 3 for x in jax.tree.leaves(state) if x.dtype == jnp.int32)


@each_rule
def test_counts_stop_at_the_largest_and_the_step_stays_finite(name: str) -> None:
    tx, top = getattr(adapter, name)(), jnp.int32(2**31 - 1)
    state = jax.tree.map(lambda x: jnp.full_like(x, top) if x.dtype == jnp.int32 else x, tx.init(SMALL))
    updates, after = tx.update(small(1), state, SMALL)
    assert all(x == top for x in jax.tree.leaves(after) if x.dtype == jnp.int32)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(updates))


@each_rule
def test_a_rule_descends_by_its_defaults_and_lets_unknown_arguments_pass(name: str) -> None:
    """optax's Adadelta without a learning rate goes uphill."""
    tx = getattr(adapter, name)()
    state = begun(name, tx, SMALL, small(1))
    updates, _ = tx.update(small(1), state, SMALL, value=1.0, value_fn=None, nonsense="")
    assert float(optax.tree.vdot(updates, small(1))) < 0
    assert same_bits(updates, tx.update(small(1), state, SMALL)[0])


@each_rule
def test_a_call_changes_none_of_its_arguments_and_gives_the_same_bits_again(name: str) -> None:
    tx = getattr(adapter, name)()
    arguments = small(1), tx.init(SMALL), SMALL
    before = jax.tree.map(np.array, arguments)
    for step in (one_call(tx), two_calls(tx)):
        assert same_bits(step(*arguments), step(*arguments))
    assert same_bits(jax.tree.map(jnp.asarray, before), arguments)


@each_rule
def test_building_one_computes_nothing_and_writes_nothing_into_a_trace(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = numbers(name)
    made(name, values)
    traced = jax.make_jaxpr(lambda hyper: (made(name, hyper), 0.0)[1])(values)
    assert {e.primitive.name for e in traced.eqns} <= {"neg"}  # a number that optax has with the other sign

    def refuse(*args: Any, **keywords: Any) -> None:
        raise AssertionError("a computation")

    monkeypatch.setattr(Primitive, "bind", refuse)
    monkeypatch.setattr(jax, "jit", refuse)
    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    made(name, values)
    made(name, {}, state_dtype="bfloat16", kernel="host")


@each_rule
def test_a_transformation_may_be_a_static_argument_also_with_arrays_in_it(name: str) -> None:
    rate = jnp.float32(0.1)
    first, second = (getattr(adapter, name)(rate) for _ in range(2))
    kinds = jax.jit(lambda tx, params: tx.init(params), static_argnums=0)
    for tx in (first, second, first):
        kinds.trace(tx, SMALL)
    assert (first.update == second.update, first.update == first.update) == (False, True)
    assert len({first, second, first}) == 2


@each_rule
def test_update_without_parameters_is_the_same_or_optaxs_error(name: str) -> None:
    tx = getattr(adapter, name)()
    wanted = tx.update(small(1), tx.init(SMALL), SMALL)
    try:
        assert same_bits(tx.update(small(1), tx.init(SMALL)), wanted)
    except ValueError as error:
        assert str(error) == NO_PARAMS_MSG  # noqa: PT017
    with pytest.raises(ValueError, match="not passing `params`"):
        adapter.step(tx, small(1), tx.init(SMALL), None)


@each_rule
@pytest.mark.parametrize("decay", [0.1, np.float32(0.1), jnp.float32(0.1), lambda count: 0.1])
def test_decay_in_any_form_needs_parameters(name: str, decay: Any) -> None:
    tx = made(name, {"weight_decay": decay})
    with pytest.raises(ValueError, match=f"^{re.escape(NO_PARAMS_MSG)}$"):
        tx.update(small(1), tx.init(SMALL))


@each_path
def test_any_learning_rate_may_follow_a_schedule(path: str) -> None:
    params, grads = {"hidden": SMALL["w"], "bias": SMALL["b"]}, {"hidden": small(1)["w"], "bias": small(1)["b"]}
    tx = adapter.muon(
        1e-2, adam_learning_rate=lambda count: 1e-3 * (count + 1), kernel="auto" if path == "host" else path
    )
    plain = adapter.muon(1e-2, adam_learning_rate=1e-3, kernel="traced")
    scheduled, wanted = (t.update(grads, t.init(params), params)[0] for t in (tx, plain))
    assert gap(scheduled, wanted, jax.tree.map(jnp.zeros_like, params)) < 1e-6


@pytest.mark.parametrize("value", ["fast", None, jnp.ones(2), 1j])
def test_what_a_schedule_may_not_say_is_named(value: Any) -> None:
    tx = adapter.adamw(lambda count: value)
    with pytest.raises(
        TypeError,
        match=r"`adamw\(learning_rate=\.\.\.\)` must be a number, or a function of the count that returns one",
    ):
        tx.update(small(1), tx.init(SMALL), SMALL)
