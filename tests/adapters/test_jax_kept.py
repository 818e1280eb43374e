"""A step on JAX keeps no array and no tracer: what the caller drops is gone, compiled or not, on every path."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from scirs2_adapters import get, names
from scirs2_adapters import jax as adapter

from .jax_support import KERNEL, SMALL, one_call, small, two_calls

OPTIONS: list[dict[str, Any]] = [
    {"skip_nonfinite": True},
    {"state_dtype": "bfloat16"},
    {"mask": {"w": True, "b": False}},
    {"kernel": "traced"},
]
pytestmark = pytest.mark.usefixtures("frozen_heap")
EACH = [n for n in names() if not get(n).needs_closure]
each_rule = pytest.mark.parametrize("name", EACH)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in EACH), *(("adamw", options) for options in OPTIONS)], ids=str
)
def test_no_tracer_leaks(name: str, options: dict[str, Any]) -> None:
    form = two_calls if options else one_call

    @jax.jit
    def train(rate: jax.Array, grads: Any, params: Any) -> Any:
        tx = getattr(adapter, name)(learning_rate=lambda count: rate / (1 + count), **options)
        return form(tx)(grads, tx.init(params), params)

    with jax.checking_leaks():
        train(jnp.float32(1e-3), small(1), SMALL)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        *((name, "auto") for name in EACH),
        *((n, path) for n in ("adamw", "lamb", "prodigy") for path in ("traced", "host")),
    ],
)
def test_gradients_parameters_and_states_die_when_the_caller_drops_them(name: str, path: str) -> None:
    if path == "host" and name not in KERNEL:
        path = "auto"
    tx = getattr(adapter, name)(kernel=path)
    for step in (one_call(tx), jax.jit(two_calls(tx))):
        before, grads, params = weakrefs(), small(1), small(2)
        state = tx.init(params)
        for _ in range(2):
            params, state = step(grads, state, params)
        jax.block_until_ready((params, state))
        del grads, params, state
        gc.collect()
        left = [x for x in jax.live_arrays() if id(x) not in before and x.size > 1]
        assert left == []


def weakrefs() -> dict[int, weakref.ref[Any]]:
    """The arrays that there are, none of which is kept by that."""
    gc.collect()
    return {id(x): weakref.ref(x) for x in jax.live_arrays()}


@each_rule
def test_a_transformation_that_is_dropped_keeps_no_traced_number_and_no_schedule(name: str) -> None:
    class Schedule:
        def __call__(self, count: Any) -> Any:
            return 1e-3 / (1 + count)

    schedule, rate = Schedule(), jnp.float32(0.001)
    refs = [weakref.ref(schedule), weakref.ref(rate)]
    for number in (schedule, rate):
        tx = getattr(adapter, name)(learning_rate=number)
        one_call(tx)(small(1), tx.init(SMALL), SMALL)
    del tx, schedule, rate, number
    gc.collect()
    assert [ref() for ref in refs] == [None, None]
