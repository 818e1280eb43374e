"""Every optimizer under `vmap`, `scan`, `while_loop`, `cond`, `checkpoint`, `grad` and `jvp`, and in donated memory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import argument_names
from scirs2_adapters.core.fields import is_number
from tests.conformance.options import brisk, turned

from .jax_support import KERNEL, PATHS, gap, one_call
from .test_jax_devices import QUICK, factory

Tree = Any
each_rule = pytest.mark.parametrize("name", scirs2_adapters.names())
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64


def numbers(name: str) -> dict[str, Any]:
    """Every hyperparameter that is a number and may be traced, by optax's names."""
    cls = scirs2_adapters.get(name)
    fields = cls.fields_with()
    plain = {k: f.default for k, f in fields.items() if not f.static and not f.structural and is_number(f.default)}
    rate = {"learning_rate": max(0.01, fields["learning_rate"].default)}
    return argument_names(cls).to_framework({k: float(v) for k, v in (plain | rate).items() if v}, fields)


def quickly(f: Callable[..., Any], *args: Any) -> Any:
    return jax.jit(f).lower(*args).compile(compiler_options=QUICK)(*args)


def two(seed: int) -> Tree:
    random = np.random.default_rng(seed)
    return {k: random.standard_normal(s).astype(np.float32) for k, s in {"w": (4, 3), "b": (5,)}.items()}


def plain_numbers(name: str) -> Tree:
    """All hyperparameters but a tuple that has a word among its numbers, which cannot be mapped over."""
    hyper = numbers(name)
    return {k: x for k, x in hyper.items() if not any(isinstance(part, str) for part in jax.tree.leaves(x))}


@each_rule
def test_vmap_over_everything_with_all_hyperparameters_is_a_loop(name: str) -> None:
    def stepped(hyper: Tree, grads: Tree, state: Tree, params: Tree) -> Any:
        return one_call(getattr(adapter, name)(**hyper))(grads, state, params)

    jitted, rows = jax.jit(stepped), []
    for i in range(3):
        hyper, start = (
            jax.tree.map(lambda x, i=i: jnp.float32(0.95**i * x), plain_numbers(name)),
            jax.tree.map(jnp.array, two(i)),
        )
        params, state = jitted(hyper, two(3), getattr(adapter, name)(**hyper).init(start), start)
        rows.append((hyper, two(6 + i), state, params))
    mapped = quickly(jax.vmap(stepped), *jax.tree.map(lambda *x: jnp.stack(x), *rows))
    for i, row in enumerate(rows):
        one, wanted = jax.tree.map(lambda x, i=i: x[i], mapped), jitted(*row)
        assert gap(one[0], wanted[0], row[3]) < 1e-4
        assert gap(one[1], wanted[1], jax.tree.map(jnp.zeros_like, wanted[1])) < 1e-5
    assert jitted._cache_size() == 1


def gradients(i: jax.Array, like: Tree) -> Tree:
    """Other gradients in each step, around zero."""
    return jax.tree.map(lambda x: jnp.sin(x * 7 + i * 1.7).astype(x.dtype), like)


def scanned(tx: Any, start: Tree, steps: int) -> Any:
    """In a `scan`, of which each step is a checkpoint."""
    step = jax.checkpoint(one_call(tx))

    def body(carry: Any, i: jax.Array) -> Any:
        return step(gradients(i, start), carry[1], carry[0]), None

    return jax.lax.scan(body, (start, tx.init(start)), jnp.arange(steps, dtype=jnp.float32))[0]


def looped(tx: Any, start: Tree, steps: int) -> Any:
    """In a `while_loop`, where every second round steps nothing."""

    def body(carry: Any) -> Any:
        i, (params, state) = carry
        grads = gradients((i // 2).astype(jnp.float32), start)
        stepped = lambda: one_call(tx)(grads, state, params)  # noqa: E731
        return i + 1, jax.lax.cond(i % 2 == 0, stepped, lambda: (params, state))

    return jax.lax.while_loop(lambda carry: carry[0] < 2 * steps, body, (0, (start, tx.init(start))))[1]


@each_rule
def test_two_thousand_steps_in_a_scan_are_those_in_a_loop_with_branches(name: str) -> None:
    start, steps = two(0), 2000
    ends = []
    for path, run in (({}, scanned), ({"kernel": "traced"}, looped)):
        tx = factory(name, brisk, **path)
        ends.append(quickly(functools.partial(run, tx, steps=steps), start))
    zeros = jax.tree.map(jnp.zeros_like, ends[1][1])
    assert gap(ends[0][0], ends[1][0], start) < 1e-3
    assert gap(ends[0][1], ends[1][1], zeros) < 1e-3
    counts = [int(x) for x in jax.tree.leaves(ends[0][1]) if x.dtype == jnp.int32]
    assert set(counts) <= {steps}


@pytest.mark.parametrize("path", PATHS)
def test_thirty_thousand_steps_stay_on_the_way_of_doubles(path: str) -> None:
    start, steps, make = two(0), 30_000, functools.partial(adapter.adamw, 1e-3)
    reached, state = jax.jit(functools.partial(scanned, make(kernel=path), steps=steps))(start)
    assert int(state[0].count) == steps
    with enable_x64(True):
        double = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), start)
        wanted, _ = jax.jit(functools.partial(scanned, make(), steps=steps))(double)
    assert gap(reached, wanted, start) < 1e-4


def real(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def slopes(name: str, options: dict[str, Any], form: str, shape: tuple[int, ...]) -> Any:
    """Forward and backward derivatives of a step by learning rate, parameters, gradients and memory, at parameters and
    gradients that are zero or not, and at memory that is new or not.
    """
    arguments = {"learning_rate": 0.01, **options}
    rate = np.float32(arguments.pop("learning_rate"))
    some = np.cos(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)
    points = [(p, g, warm) for p in (some, 0 * some) for g in (np.sin(3 * some), 0 * some) for warm in (False, True)]

    def stepped(rate: Any, p: Any, g: Any, slots: list[Any], state: Tree) -> Any:
        tx, inputs = getattr(adapter, name)(rate, **arguments), iter(slots)
        state = jax.tree.map(lambda x: next(inputs) if real(x) else x, state)
        out = one_call(tx)(g, state, p) if form == "step" else tx.update(g, state, p)
        return [x for x in jax.tree.leaves(out) if real(x)]

    def at(p: Any, g: Any, warm: Any) -> Any:
        state = jax.tree.map(
            lambda x: jnp.where(warm, 0.25, x).astype(x.dtype), getattr(adapter, name)(rate, **arguments).init(p)
        )
        slots = [x for x in jax.tree.leaves(state) if real(x)]
        _, push = jax.linearize(functools.partial(stepped, state=state), rate, p, g, slots)
        forward = push(*jax.tree.map(jnp.ones_like, (rate, p, g, slots)))
        back = jax.linear_transpose(push, rate, p, g, slots)(jax.tree.map(jnp.ones_like, forward))
        return forward, dict(zip(("learning rate", "parameter", "gradient", "memory"), back, strict=True))

    return quickly(jax.vmap(at), *(np.stack(x) for x in zip(*points, strict=True)))


DERIVED = [(name, form) for name in scirs2_adapters.names() for form in ("step", "update")]


@pytest.mark.parametrize(("name", "form"), DERIVED)
def test_derivatives_are_finite_everywhere(name: str, form: str) -> None:
    cls = scirs2_adapters.get(name)
    options = {} if form == "step" else argument_names(cls).to_framework(turned(cls), cls.fields_with())
    derivatives = slopes(name, options, form, (3, 2) if form == "step" else (4,))
    leaves = jax.tree_util.tree_leaves_with_path(derivatives)
    assert [jax.tree_util.keystr(path) for path, x in leaves if not np.isfinite(x).all()] == []
    assert any(np.any(x != 0) for _, x in leaves)


def in_place(name: str, path: str) -> Any:
    """A program to which parameters and state are donated, the places before and after it, and the bytes of a leaf."""
    params = {f"p{i}": jnp.full((64, 50), 1.0 + i) for i in range(3)}
    tx = getattr(adapter, name)(kernel=path)
    state = jax.tree.map(jnp.array, tx.init(params))
    jitted = jax.jit(lambda params, state, grads: adapter.step(tx, grads, state, params), donate_argnums=(0, 1))
    args = params, state, jax.tree.map(jnp.sin, params)
    program = jitted.lower(*args).compile()
    places = lambda tree: [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree) if x.size > 1]  # noqa: E731
    before = places(args[:2])
    return program, before, places(program(*args)), params["p0"].nbytes


@each_rule
def test_donated_memory_comes_back_in_its_place(name: str) -> None:
    program, before, after, leaf = in_place(name, "host" if name in KERNEL else "traced")
    assert after == before
    if name in KERNEL:
        assert program.memory_analysis().temp_size_in_bytes < leaf
