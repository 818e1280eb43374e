"""Memory of 8 bits and rounding errors in JAX: the steps of `HostOptimizer` bit for bit, under JAX's transformations
and inside optax's wrappers.
"""

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
from scirs2_adapters.adapters.jax import coded
from scirs2_adapters.core import HostOptimizer, formats
from scirs2_adapters.core.cpu import storage
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.slots import Extent, Leaf

from .jax_support import KERNEL, PATHS, Tree, gap, one_call, same_bits, shapes, two_calls
from .test_jax_transformations import enable_x64

SHAPES = {"bias": (80,), "flat": (4173,), "matrix": (96, 96)}
INT8 = {"state_dtype": "int8"}
BOTH = {"state_dtype": "int8", "rounding": "compensated"}
FORMATS = pytest.mark.parametrize("options", [INT8, BOTH], ids=["int8", "compensated"])
RULES = [name for name in scirs2_adapters.names() if name not in ("sparseadam", "lookahead")]
each_rule = pytest.mark.parametrize("name", RULES)
each_path = pytest.mark.parametrize("path", PATHS)


def start(dtype: Any = jnp.float32) -> Tree:
    rng = np.random.default_rng(0)
    return {k: jnp.asarray(rng.standard_normal(s), dtype) for k, s in SHAPES.items()}


def gradients(steps: int, dtype: Any = jnp.float32, seed: int = 1) -> list[Tree]:
    rng = np.random.default_rng(seed)
    return [{k: jnp.asarray(rng.standard_normal(s), dtype) for k, s in SHAPES.items()} for _ in range(steps)]


def dtype_of(options: dict[str, Any]) -> Any:
    return jnp.bfloat16 if "rounding" in options else jnp.float32


def walk(step: Any, state: Tree, params: Tree, grads: list[Tree]) -> tuple[Tree, Tree]:
    jitted = jax.jit(step)
    for g in grads:
        params, state = jitted(g, state, params)
    return params, state


def memory_of(tx: Any, state: Tree) -> dict[str, Tree]:
    """Slots and companions by the core's names."""
    memory = tx.update.layout.read(state)
    return {**memory.slots, **memory.companions}


def skip_prodigy(name: str, options: dict[str, Any]) -> None:
    if name == "prodigy" and options is BOTH:
        pytest.skip("Prodigy refuses parameters of 16 bits: its first steps would be lost")


@FORMATS
@each_rule
def test_the_host_kernel_steps_as_that_of_numpy_arrays_does(name: str, options: dict[str, Any]) -> None:
    """Bit for bit where all coefficients are float64, and where no sum is taken, which JAX takes in float32."""
    skip_prodigy(name, options)
    with enable_x64(True):
        params, dtype = start(dtype_of(options)), dtype_of(options)
        tx = getattr(adapter, name)(1e-2, **options)
        arrays = {k: np.array(p) for k, p in params.items()}
        host = HostOptimizer(tx.update.rule, arrays, layout="inputs_first", **options)
        params, state = walk(one_call(tx), tx.init(params), params, gradients(4, dtype))
        for g in gradients(4, dtype):
            host.step({k: np.asarray(x) for k, x in g.items()})
        memory, coded_slots = memory_of(tx, state), 0
        for k, p in params.items():
            program = host._entries[k].program
            exact = name in KERNEL and not program.levels and all(s.extent is Extent.FULL for s in program.slots)
            assert_alike(p, arrays[k], exact)
            for slot, x in host.state[k].items():
                sign = -1 if slot in tx.update.layout.negative else 1
                assert memory[slot][k].dtype == x.dtype
                assert_alike(memory[slot][k], sign * x, exact)
                coded_slots += x.dtype in (np.int8, np.uint8)
        assert coded_slots or not any(s.may_be_blocks for s in tx.update.rule.slots(Leaf(SHAPES["matrix"])))


def assert_alike(a: Any, b: np.ndarray, exact: bool) -> None:
    """Equal, or in nearly all numbers next to each other."""
    a, b = np.asarray(a), np.asarray(b)
    if exact:
        np.testing.assert_array_equal(a, b)
        return
    if b.dtype.kind in "iu":
        assert np.mean(np.abs(a.astype(int) - b.astype(int)) > 1) < 0.01
    else:
        a, b = a.astype(np.float64), b.astype(np.float64)
        assert np.mean(np.abs(a - b) > 1e-5 + 0.01 * np.abs(b)) < 0.01


@FORMATS
@each_rule
def test_jax_operations_lead_to_the_same(name: str, options: dict[str, Any]) -> None:
    skip_prodigy(name, options)
    ends, params = [], start(dtype_of(options))
    for path in ("traced", "auto"):
        tx = getattr(adapter, name)(1e-2, kernel=path, **options)
        ends.append(walk(one_call(tx), tx.init(params), params, gradients(4, dtype_of(options))))
    assert shapes(ends[0][1]) == shapes(ends[1][1])
    assert gap(ends[0][0], ends[1][0], params) <= (2e-3 if options is INT8 else 2e-2)
    assert gap(ends[1][0], params, ends[1][0]) > 0.5


@each_path
@FORMATS
@each_rule
def test_update_and_apply_are_the_step(name: str, options: dict[str, Any], path: str) -> None:
    """With rounding errors bit for bit: what `apply_updates` rounds to is what the errors are relative to."""
    skip_prodigy(name, options)
    params = start(dtype_of(options))
    tx = getattr(adapter, name)(1e-2, kernel="traced" if path == "traced" else "auto", **options)
    grads = gradients(5, dtype_of(options))
    one, two = (walk(make(tx), tx.init(params), params, grads) for make in (one_call, two_calls))
    if options is BOTH:
        assert same_bits(one[0], two[0])
        assert same_bits(memory_of(tx, one[1]), memory_of(tx, two[1]))
        updates, _ = jax.eval_shape(tx.update, grads[0], one[1], params)
        assert {x.dtype.name for x in jax.tree.leaves(updates)} == {"float32"}
    assert gap(one[0], two[0], params) <= 2e-3


@each_path
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("error", ["int8", "int16"])
def test_compensated_parameters_learn_as_float32_ones_do(path: str, dtype: Any, error: str) -> None:
    """Steps of which rounding to the nearest loses every one."""
    state_dtype = {"rounding_error": error, "exp_avg": "float32", "exp_avg_sq": "float32"}
    tx = adapter.adamw(1e-4, kernel=path, rounding="compensated", state_dtype=state_dtype)
    first = {"w": jnp.ones(1000, dtype)}
    grads = [{"w": jnp.ones(1000, dtype)}] * 40
    for make in (one_call, two_calls):
        params, state = walk(make(tx), tx.init(first), first, grads)
        assert state.companions["rounding_error"]["w"].dtype == error
        np.testing.assert_allclose(np.asarray(params["w"], np.float32), 1 - 40 * 1e-4, atol=0.003)
    plain, _ = walk(one_call(adapter.adamw(1e-4)), adapter.adamw(1e-4).init(first), first, grads)
    assert dtype == jnp.float16 or same_bits(plain, first)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bfloat16+int8", "bfloat16+int16", "float16+int8", "float16+int16"])
def test_formats_are_those_of_numpy(dtype: str) -> None:
    """Bit for bit; codes may be the next one where a compiler contracts a product and a sum."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(70_000) * 10.0 ** rng.integers(-4, 4, 70_000)
    x = np.concatenate([x, np.zeros(256), np.full(256, np.nan), [-0.0, 0.0, np.inf, 1e-3]]).astype(np.float32)
    for number in (0.5, 0.125):
        wanted = storage.store_parts(x, dtype, number)
        for store in (coded.store, jax.jit(coded.store, static_argnums=0)):
            found = store(dtype, jnp.asarray(x), jnp.float32(number))
            for a, b in zip(map(np.asarray, found), wanted, strict=True):
                a = a.view(b.dtype)
                apart = a.view(np.uint8) != b.view(np.uint8)
                assert apart.sum() <= (2 if dtype in formats.BLOCK_DTYPES and a.size == x.size else 0)
            back = jax.jit(coded.load, static_argnums=0)(dtype, *found)
            np.testing.assert_allclose(back, storage.load(wanted[0], dtype, wanted[1]), rtol=0.02, equal_nan=True)


def test_the_dither_of_a_count_is_that_of_float64() -> None:
    counts = np.concatenate([np.arange(5000), 10 ** np.arange(1, 8)]).astype(np.int32)
    wanted = np.array([formats.dither(int(t) + 1.0) for t in counts], np.float32)
    np.testing.assert_array_equal(jax.vmap(coded.dither)(counts), wanted)
    late = coded.dither(jnp.int32(2**31 - 2))
    np.testing.assert_allclose(late, formats.dither(2.0**31 - 1), atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_change_applied_is_the_new_parameter_whatever_the_numbers(dtype: Any) -> None:
    """Far apart, subnormal, infinite or NaN; only where float32 has no such difference is it another number, and then
    within the last place of float32.
    """
    bits = jnp.asarray(np.random.default_rng(0).integers(0, 1 << 16, (2, 200_000)), jnp.uint16)
    p, new = jax.lax.bitcast_convert_type(bits, dtype)
    error = jnp.full(p.shape, -3, jnp.int8)
    delta, kept = jax.jit(coded.change)(p, new, error)
    applied = optax.apply_updates(p, delta)
    exact, joined = kept == error, coded.load(f"{jnp.dtype(dtype).name}+int8", applied, kept)
    before, after, now = (x.astype(jnp.float32) for x in (p, new, applied))
    assert jnp.array_equal(now[exact], after[exact])
    usual = (jnp.maximum(abs(before), abs(after)) < 1e38) & (jnp.minimum(abs(before), abs(after)) > 1e-34)
    assert (abs(now - after)[usual] <= 2.0**-23 * abs(before[usual])).all()
    near = usual & (abs(after) < 4096 * abs(before)) & (abs(before) < 4096 * abs(after))
    assert near.sum() > 1000
    assert exact[near].all()
    assert jnp.isfinite(joined[jnp.isfinite(now)]).all()


@pytest.mark.parametrize("form", [one_call, two_calls])
@FORMATS
def test_no_float32_copy_of_the_state_is_made(options: dict[str, Any], form: Any) -> None:
    """A step in donated memory needs none but, in two calls, that of the change itself."""
    count, tx = 1 << 20, adapter.adamw(**options)
    params = jax.ShapeDtypeStruct((count,), dtype_of(options))
    state = jax.eval_shape(tx.init, params)
    compiled = jax.jit(form(tx), donate_argnums=(1, 2)).lower(params, state, params).compile()
    used = compiled.memory_analysis()
    assert used.temp_size_in_bytes <= (0 if form is one_call else 4 * count) + 4096
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((state, params)))
    assert used.alias_size_in_bytes >= size - 4096
    assert size <= count * (6.04 if options is INT8 else 5.04)


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
    found = jax.jit(jax.vmap(one_call(tx)))(rows, states, many)
    alone = jax.jit(one_call(tx))(grads[0], state, params)
    assert gap(jax.tree.map(lambda x: x[0], found[0]), alone[0], params) < 1e-2
    assert shapes(jax.tree.map(lambda x: x[0], found)) == shapes(alone)
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
    for other, words in ((wrong, "int8 or int16 array"), (state.inner_state, "as `init` makes it")):
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
                assert (f"{slot.name}_scale" in memory.companions) == (slot.block_dtype is not None)
                seen += 1
    assert seen >= len([n for n in RULES if get(n)().all_slots()])
