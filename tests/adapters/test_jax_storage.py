"""Memory of 8 bits and rounded parameters in JAX: the numbers, those of `HostOptimizer` bit for bit, on both paths."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scirs2_adapters import get
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters._xla import coded
from scirs2_adapters.adapters.jax.argument_names import argument_names, factory_name
from scirs2_adapters.core import HostOptimizer, formats
from scirs2_adapters.core.cpu import storage
from scirs2_adapters.core.numpy_arrays import carried
from scirs2_adapters.core.slots import Extent, Leaf
from tests.conformance.options import still_steps
from tests.xla import is_quick

from .jax_storage import (
    FORMATS,
    INT8,
    RULES,
    SHAPES,
    dtype_of,
    each_path,
    each_rule,
    gradients,
    memory_of,
    skip_small_steps,
    start,
    walk,
)
from .jax_support import KERNEL, PATHS, gap, one_call, same_bits, shapes, two_calls
from .test_jax_transformations import enable_x64


@pytest.mark.one_of_each("name")
@FORMATS
@each_rule
def test_the_host_kernel_steps_as_that_of_numpy_arrays_does(name: str, options: dict[str, Any]) -> None:
    """Bit for bit where all coefficients are float64, and where no sum is taken, which JAX takes in float32."""
    skip_small_steps(name, options)
    with enable_x64(True):
        params, dtype = start(dtype_of(options)), dtype_of(options)
        tx = getattr(adapter, name)(1e-2, **options)
        arrays = {k: np.array(p) for k, p in params.items()}
        host = HostOptimizer(tx.update.rule, arrays, layout="inputs_first", **options)
        params, state = walk(one_call(tx), tx.init(params), params, gradients(steps_of(name), dtype))
        for g in gradients(steps_of(name), dtype):
            host.step({k: np.asarray(x) for k, x in g.items()})
        memory, coded_slots = memory_of(tx, state), 0
        for k, p in params.items():
            program = host._entries[k].program
            exact = name in KERNEL and not program.levels and all(s.extent is Extent.FULL for s in program.slots)
            assert_alike(p, arrays[k], exact)
            for slot, x in host.state[k].items():
                sign = -1 if slot in tx.update.layout.negative else 1
                stored = carried(np.asarray(memory[slot][k]))
                assert stored.dtype == x.dtype
                assert_alike(stored, sign * x, exact)
                coded_slots += x.dtype in (np.int8, np.uint8)
        moments = [s for s in tx.update.rule.slots(Leaf(SHAPES["matrix"])) if s.initial != "parameter"]
        assert coded_slots or not any(s.may_be_blocks for s in moments)


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


def steps_of(name: str) -> int:
    """So many that some of them move the parameters."""
    return max(4, 1 + still_steps(name))


@functools.cache
def begun(name: str, path: str, options: tuple[tuple[str, str], ...]) -> tuple[Any, Any]:
    """An optimizer and its first state."""
    tx = getattr(adapter, name)(1e-2, kernel="auto" if path == "host" else path, **dict(options))
    return tx, tx.init(start(dtype_of(dict(options))))


def ended(name: str, path: str, options: tuple[tuple[str, str], ...], form: Any) -> tuple[Any, Any]:
    """Parameters and state after some steps of it."""
    return _ended(name, path, options, form, is_quick())


@functools.cache
def _ended(name: str, path: str, options: tuple[tuple[str, str], ...], form: Any, quick: bool) -> tuple[Any, Any]:
    """The same, by a program that is compiled once for all tests that look at them."""
    (tx, state), dtype = begun(name, path, options), dtype_of(dict(options))
    return walk(form(tx), state, start(dtype), gradients(steps_of(name), dtype))


@pytest.mark.one_of_each("name")
@FORMATS
@each_rule
def test_jax_operations_lead_to_the_same(name: str, options: dict[str, Any]) -> None:
    skip_small_steps(name, options)
    params = start(dtype_of(options))
    ends = [ended(name, path, tuple(options.items()), one_call) for path in PATHS]
    assert shapes(ends[0][1]) == shapes(ends[1][1])
    assert gap(ends[0][0], ends[1][0], params) <= (2e-3 if options is INT8 else 2e-2)
    assert gap(ends[1][0], params, ends[1][0]) > 0.5


@pytest.mark.usefixtures("xla_for_users")
@pytest.mark.one_of_each("name")
@each_path
@FORMATS
@each_rule
def test_update_and_apply_are_the_step(name: str, options: dict[str, Any], path: str) -> None:
    """With rounding errors bit for bit: what `apply_updates` rounds to is what the errors are relative to."""
    skip_small_steps(name, options)
    params, settings = start(dtype_of(options)), tuple(options.items())
    tx, _ = begun(name, path, settings)
    one, two = (ended(name, path, settings, form) for form in (one_call, two_calls))
    if options is not INT8:
        assert same_bits(one[0], two[0])
        assert same_bits(memory_of(tx, one[1]), memory_of(tx, two[1]))
        updates, _ = jax.eval_shape(tx.update, params, one[1], params)
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


@pytest.mark.parametrize("dtype", [name for name in storage.STORAGES if formats.companion("p", name)])
def test_formats_are_those_of_numpy(dtype: str) -> None:
    """Bit for bit; codes may be the next one where a compiler contracts a product and a sum."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(70_000) * 10.0 ** rng.integers(-4, 4, 70_000)
    x = np.concatenate([x, np.zeros(256), np.full(256, np.nan), [-0.0, 0.0, np.inf, 1e-3]]).astype(np.float32)
    seed = np.array(7, np.int32)
    for number in (0.5, 0.125):
        wanted = storage.store_parts(x, dtype, number, seed)
        for store in (coded.store, jax.jit(coded.store, static_argnums=0)):
            parts = store(dtype, jnp.asarray(x), jnp.float32(number), jnp.asarray(seed))
            for a, b in zip(map(np.asarray, parts), wanted, strict=True):
                a = a.view(b.dtype)
                apart = np.atleast_1d(a).view(np.uint8) != np.atleast_1d(b).view(np.uint8)
                assert apart.sum() <= (2 if dtype in formats.BLOCK_DTYPES and a.size == x.size else 0)
            back = jax.jit(coded.load, static_argnums=0)(dtype, *parts)
            np.testing.assert_allclose(back, storage.load(wanted[0], dtype, wanted[1]), rtol=0.02, equal_nan=True)


def test_the_dither_of_a_count_is_that_of_float64() -> None:
    counts = np.concatenate([np.arange(5000), 10 ** np.arange(1, 8)]).astype(np.int32)
    wanted = np.array([formats.dither(int(t) + 1.0) for t in counts], np.float32)
    counted = functools.partial(formats.counted_dither, coded.FORMAT_OPS)
    np.testing.assert_array_equal(jax.vmap(counted)(counts + 1), wanted)
    assert float(counted(jnp.int32(2**31 - 1))) == np.float32(formats.dither(2**31 - 1))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_change_applied_is_the_new_parameter_whatever_the_numbers(dtype: Any) -> None:
    """Far apart, subnormal, infinite or NaN; only where float32 has no such difference is it another number, and then
    within the last place of float32.
    """
    bits = jnp.asarray(np.random.default_rng(0).integers(0, 1 << 16, (2, 200_000)), jnp.uint16)
    p, new = jax.lax.bitcast_convert_type(bits, dtype)
    error = jnp.full(p.shape, -3, jnp.int8)
    delta, exact = jax.jit(coded.change)(p, new)
    applied = optax.apply_updates(p, delta)
    joined = coded.load(f"{jnp.dtype(dtype).name}+int8", applied, jnp.where(exact, error, 0))
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


@pytest.mark.parametrize("name", [n for n in RULES if get(n).first_step in get(n).fields])
def test_small_first_steps_need_a_rounding_error_of_16_bits(name: str) -> None:
    rule, params = get(name), start(jnp.bfloat16)
    small = argument_names(rule).to_framework({rule.first_step: 1e-3}, rule.fields_with())
    make, grads = getattr(adapter, factory_name(name)), gradients(4, jnp.bfloat16)
    coarse = make(**small)
    with pytest.raises(ValueError, match=r"must have float32 parameters, .* or rounding errors of int16"):
        walk(one_call(coarse), coarse.init(params), params, grads)
    tx = make(**small, rounding="compensated", state_dtype={"rounding_error": "int16"})
    moved, _ = walk(one_call(tx), tx.init(params), params, grads)
    assert any((moved[k] != params[k]).any() for k in params)
