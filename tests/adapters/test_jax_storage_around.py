"""Memory of 8 bits and rounded parameters under JAX's transformations, inside optax's wrappers and on several devices;
what is refused.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scirs2_adapters import jax as adapter
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.slots import Extent, Leaf
from tests.boundaries.support import fresh
from tests.xla import flags

from .jax_storage import (
    BOTH,
    FORMATS,
    INT8,
    RULES,
    SHAPES,
    dtype_of,
    each_path,
    gradients,
    start,
    walk,
)
from .jax_support import Tree, gap, one_call, same_bits, shapes, two_calls


@pytest.mark.one_of_each("path")
@each_path
@FORMATS
def test_scan_vmap_and_shapes(options: dict[str, Any], path: str) -> None:
    params, dtype = start(dtype_of(options)), dtype_of(options)
    tx = adapter.adamw(1e-2, kernel="traced" if path == "traced" else "auto", **options)
    state, grads = tx.init(params), gradients(3, dtype)
    assert shapes(jax.eval_shape(tx.init, params)) == shapes(state)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *grads)
    scan = lambda carry, g: (one_call(tx)(g, carry[1], carry[0]), None)  # noqa: E731
    scanned, _ = jax.jit(functools.partial(jax.lax.scan, scan))((params, state), stacked)
    looped = walk(one_call(tx), state, params, grads)
    assert same_bits(scanned, looped)
    many = jax.tree.map(lambda x: jnp.stack([x, -x]), params)
    states = jax.vmap(tx.init)(many)
    rows = jax.tree.map(lambda x: jnp.stack([x, -x]), grads[0])
    mapped = jax.jit(jax.vmap(one_call(tx)))(rows, states, many)
    alone = jax.jit(one_call(tx))(grads[0], state, params)
    assert gap(jax.tree.map(lambda x: x[0], mapped[0]), alone[0], params) < 1e-2
    assert shapes(jax.tree.map(lambda x: x[0], mapped)) == shapes(alone)
    wrong = states._replace(companions=state.companions)
    with pytest.raises(ValueError, match=r"state.companions=.*(scales|rounding).*`init` there"):
        one_call(tx)(rows, wrong, many)


@FORMATS
@each_path
def test_a_derivative_is_refused_and_not_wrong(options: dict[str, Any], path: str) -> None:
    params = start(dtype_of(options))
    tx = adapter.adamw(1e-2, kernel="traced" if path == "traced" else "auto", **options)
    state = tx.init(params)
    loss = lambda g: jnp.sum(one_call(tx)(g, state, params)[0]["matrix"])  # noqa: E731
    with pytest.raises(TypeError, match=r"have no derivative.*state_dtype=None"):
        jax.grad(loss)(params)


def wrapped(tx: Any, params: Tree) -> dict[str, Any]:
    labels = {"bias": "a", "flat": "b", "matrix": "a"}
    mask = {"bias": False, "flat": True, "matrix": True}
    inject = optax.inject_hyperparams(adapter.adamw, hyperparam_dtype=jnp.float32)
    return {
        "chain": optax.chain(optax.clip_by_global_norm(0.5), tx),
        "masked": optax.masked(tx, mask),
        "multi_transform": optax.multi_transform({"a": tx, "b": optax.sgd(0.1)}, labels),
        "partition by dtype": optax.multi_transform({"a": tx, "b": adapter.sgd(0.1, momentum=0.9)}, labels),
        "apply_if_finite": optax.apply_if_finite(tx, 2) if params["bias"].dtype == jnp.float32 else tx,
        "multi_steps": optax.MultiSteps(tx, 2),
        "inject": inject(1e-2, **tx_options(tx)),
        "skip": adapter.adamw(1e-2, skip_nonfinite=True, **tx_options(tx)),
    }


def tx_options(tx: Any) -> dict[str, Any]:
    options = tx.update.options
    return {"state_dtype": options.state_dtype, "rounding": options.rounding}


@pytest.mark.one_of_each
@FORMATS
def test_optax_wrappers_go_on_as_ever(options: dict[str, Any]) -> None:
    params, dtype = start(dtype_of(options)), dtype_of(options)
    tx = adapter.adamw(1e-2, **options)
    for kind, outer in wrapped(tx, params).items():
        state, grads = outer.init(params), gradients(4, dtype)
        end, after = walk(two_calls(outer), state, params, grads)
        assert shapes(end) == shapes(params), kind
        assert shapes(after) == shapes(state), kind
        moved = [float(jnp.abs(end[k].astype(float) - params[k].astype(float)).max()) for k in ("flat", "matrix")]
        assert min(moved) > 1e-3, kind
        leaves, structure = jax.tree.flatten(after)  # as a checkpoint has it
        restored = jax.tree.unflatten(structure, [jnp.asarray(np.asarray(x)) for x in leaves])
        more = gradients(2, dtype, seed=2)
        assert same_bits(walk(two_calls(outer), restored, end, more), walk(two_calls(outer), after, end, more)), kind


def test_trees_of_shardings_are_made_as_of_any_state() -> None:
    params = start(jnp.bfloat16)
    tx = adapter.adamw(**BOTH)
    state = tx.init(params)
    specs = optax.tree.map_params(tx, lambda _, spec: spec, state, dict.fromkeys(params, "spec"))
    assert jax.tree.structure(specs) == jax.tree.structure(state)
    assert optax.tree.get(state, "mu_scale")["matrix"].shape == (36,)
    assert optax.tree.get(state, "mu")["matrix"].dtype == jnp.int8


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state_dtype": "int4"}, "'int8'"),
        ({"state_dtype": {"count": "int8"}}, "names a slot"),
        ({"state_dtype": {"rounding_error": "float32"}}, "'int8', 'int16'"),
        ({"rounding": "compensate"}, "Did you mean `compensated`"),
        ({"rounding": "compensated"}, "needs parameters of 16 bits"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        adapter.adamw(**options).init(start())


def test_what_does_not_fit_a_state_is_refused() -> None:
    params = start(jnp.bfloat16)
    tx = adapter.adamw(**BOTH)
    state = tx.init(params)
    wrong = state._replace(companions=state.companions | {"rounding_error": jax.tree.map(jnp.zeros_like, params)})
    for other, words in ((wrong, "int8 or int16"), (state.inner_state, "as `init` makes it")):
        with pytest.raises((TypeError, ValueError), match=words):
            one_call(tx)(params, other, params)
    with pytest.raises((TypeError, ValueError), match="as `init` makes it"):
        one_call(adapter.adamw())(params, state, params)
    with pytest.raises(ValueError, match="requires the current value of parameters"):
        adapter.sgd(momentum=0.9, weight_decay=0.0, **BOTH).update(
            params, adapter.sgd(momentum=0.9, **BOTH).init(params)
        )


def test_nothing_may_stand_behind_rounding() -> None:
    params = start(jnp.bfloat16)
    for tx in (
        optax.chain(adapter.adamw(**BOTH), optax.scale(0.5)),
        optax.chain(optax.identity(), optax.chain(adapter.adamw(skip_nonfinite=True, **BOTH), optax.scale(0.5))),
    ):
        with pytest.raises(ValueError, match="must have nothing behind"):
            adapter.step(tx, params, tx.init(params), params)
    before = optax.chain(optax.scale(0.5), optax.clip(1.0), adapter.adamw(**BOTH))
    adapter.step(before, params, before.init(params), params)


def test_float32_parameters_beside_those_of_16_bits_are_stepped_as_ever() -> None:
    grads = {"p": jnp.ones(5000), "q": jnp.ones(5000, jnp.bfloat16)}
    both, one = adapter.adamw(rounding="compensated"), adapter.adamw()
    end, state = walk(one_call(both), both.init(grads), grads, [grads] * 20)
    alone, _ = walk(one_call(one), one.init({"p": grads["p"]}), {"p": grads["p"]}, [{"p": grads["p"]}] * 20)
    assert same_bits(end["p"], alone["p"])
    assert state.companions["rounding_error"]["p"].shape == (1,)
    assert jnp.abs(end["q"].astype(float) - end["p"]).max() <= 2**-8


def test_slots_are_named_as_optax_names_them() -> None:
    state = adapter.adamw(state_dtype={"nu": "int8"}).init(start())
    assert list(state.companions) == ["nu_scale"]
    assert state.inner_state[0].mu["matrix"].dtype == jnp.float32
    assert state.inner_state[0].nu["matrix"].dtype == jnp.uint8


def test_every_slot_that_may_be_in_blocks_is() -> None:
    seen = 0
    for name in RULES:
        tx = getattr(adapter, name)(**INT8)
        memory, rule = tx.update.layout.read(tx.init(start())), tx.update.rule
        for slot in rule.route(Leaf(SHAPES["matrix"])).slots(Leaf(SHAPES["matrix"])):
            if slot.extent is Extent.FULL and slot.initial != "parameter":
                wanted = slot.block_dtype or "float32"
                assert memory.slots[slot.name]["matrix"].dtype == wanted, (name, slot.name)
                coded = {str(x.dtype) for x in jax.tree.leaves(memory.slots[slot.name])} & {"int8", "uint8"}
                assert (f"{slot.name}_scale" in memory.companions) == bool(coded)
                seen += 1
    assert seen >= len([n for n in RULES if get(n)().all_slots()])


DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from scirs2_adapters.jax import adamw, step
rng = np.random.default_rng(0)
specs = {"rows": P("x", None), "straddling": P("x", None), "columns": P(None, "x"), "bias": P()}
shapes = {"rows": (512, 256), "straddling": (1000, 24), "columns": (256, 512), "bias": (80,)}
start = {k: rng.standard_normal(s) for k, s in shapes.items()}
def run(put, dtype, options):
    params, tx = {k: put(k, jnp.asarray(x, dtype)) for k, x in start.items()}, adamw(1e-2, **options)
    state, stepped = tx.init(params), jax.jit(lambda g, s, p: step(tx, g, s, p))
    for i in range(3):
        grads = {k: put(k, jnp.asarray(np.sin(7 * x + i), dtype)) for k, x in start.items()}
        params, state = stepped(grads, state, params)
    return params, state
for dtype, rounding in ((jnp.float32, "nearest"), (jnp.bfloat16, "compensated"), (jnp.bfloat16, "stochastic")):
    options = {"state_dtype": "int8", "rounding": rounding}
    alone, _ = run(lambda k, x: x, dtype, options | {"kernel": "traced"})
    for axes in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("x",), axis_types=(axes,))
        with jax.set_mesh(mesh):
            params, state = run(lambda k, x: jax.device_put(x, NamedSharding(mesh, specs[k])), dtype, options)
            for k, p in params.items():
                spread = NamedSharding(mesh, specs[k])
                trees = [params, state.inner_state[0].mu, state.inner_state[0].nu]
                assert all(x[k].sharding.is_equivalent_to(spread, p.ndim) for x in trees), k
                difference = np.abs(np.asarray(p, np.float32) - np.asarray(alone[k], np.float32))
                assert np.mean(difference > 1e-6) < 1e-3, (k, rounding, difference.max())
tx, mesh = adamw(1e-2, state_dtype="int8"), jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
def mapped(k):
    p = jnp.asarray(start[k], jnp.float32)
    state = tx.init(p)
    split = lambda x: specs[k] if x.ndim == 2 else P("x") if x.ndim and k == "rows" else P()
    of_state = jax.tree.map(split, state)
    body = lambda g, s, p: step(tx, g, s, p)
    in_specs, out_specs = (specs[k], of_state, specs[k]), (specs[k], of_state)
    there = jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=out_specs)
    return jax.jit(there)(p, state, p), step(tx, p, state, p)
(there, _), (here, _) = mapped("rows")
assert np.abs(np.asarray(there) - np.asarray(here)).max() < 1e-6
for k in ("straddling", "columns"):
    try:
        mapped(k)
    except ValueError as error:
        assert "the scales of a slot's blocks of 256 numbers" in str(error) and "call `init` there" in str(error)
    else:
        raise AssertionError(k)
def inside(p):
    body = lambda carry, _: (step(tx, jnp.sin(carry[0]), carry[1], carry[0]), None)
    return jax.lax.scan(body, (p, tx.init(p)), None, length=2)[0][0]
for k in ("rows", "straddling", "columns"):
    jax.jit(jax.shard_map(inside, mesh=mesh, in_specs=specs[k], out_specs=specs[k]))(jnp.asarray(start[k], jnp.float32))
"""


@pytest.mark.slow
def test_shards_have_the_codes_of_the_whole() -> None:
    """Blocks that reach over shards too; under `shard_map`, where each device has its own, they are refused."""
    fresh(DEVICES, XLA_FLAGS=flags(8))
