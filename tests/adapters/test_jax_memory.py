"""`memory(tx, params)`: what it says is what `init` allocates, and nothing is computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from scirs2_adapters import get, names
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import argument_names
from scirs2_adapters.core import Memory
from tests.conformance.options import learned

PARAMS = {"w": jnp.ones((300, 200)), "b": jnp.ones(7, jnp.bfloat16), "stack": jnp.ones((3, 16, 32))}
OPTIONS: list[dict[str, Any]] = [{}, {"state_dtype": "bfloat16"}, {"state_dtype": "float32"}, {"skip_nonfinite": True}]
NARROW: list[dict[str, Any]] = [
    {"state_dtype": "int8"},
    {"state_dtype": "int8", "rounding": "compensated"},
    {"rounding": "stochastic"},
    {"skip_nonfinite": True, "rounding": "compensated", "state_dtype": {"rounding_error": "int16"}},
]


def size(tree: Any) -> int:
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def in_state(memory: Memory) -> int:
    return sum(sum(by_dtype.values()) for by_dtype in memory.state.values()) + memory.corrections


@pytest.mark.parametrize("options", [*OPTIONS, *NARROW], ids=str)
@pytest.mark.parametrize("name", names())
def test_the_report_is_what_is_allocated(name: str, options: dict[str, Any]) -> None:
    cls = get(name)
    first = argument_names(cls).to_framework(learned(cls), cls.fields_with()) if "rounding" in options else {}
    tx = getattr(adapter, name)(**first, **options)
    shapes = jax.eval_shape(lambda p: p, PARAMS)
    memory = adapter.memory(tx, shapes, shapes)
    state = tx.init(PARAMS)
    assert in_state(memory) == size(state)
    assert memory.parameters == memory.gradients == size(PARAMS)
    assert memory.numbers == sum(x.size for x in PARAMS.values())
    assert adapter.memory(tx, PARAMS) == adapter.memory(tx, shapes)
    assert adapter.memory(tx, PARAMS).gradients == 0


@pytest.mark.parametrize("options", NARROW, ids=str)
def test_scales_and_corrections_have_their_names(options: dict[str, Any]) -> None:
    memory = adapter.memory(adapter.adamw(**options), PARAMS)
    least = {"compensated": 7, "stochastic": 4}.get(options.get("rounding", ""), 0)  # of seven numbers of 16 bits
    assert ("exp_avg_scale" in memory.state) == (options.get("state_dtype") == "int8")
    assert memory.corrections >= least
    assert (memory.corrections > 0) == ("rounding" in options)
    assert "state" not in memory.state or options.get("skip_nonfinite")


def test_slots_have_their_names_behind_other_members_of_a_chain() -> None:
    tx = optax.chain(optax.clip_by_global_norm(1.0), adapter.adamw(state_dtype="bfloat16"))
    memory = adapter.memory(tx, PARAMS)
    numbers = memory.numbers
    assert memory.state == {
        "count": {"int32": 4},
        "exp_avg": {"bfloat16": 2 * numbers},
        "exp_avg_sq": {"bfloat16": 2 * numbers},
    }


@pytest.mark.parametrize("make", [optax.adamw, optax.adafactor, optax.sgd, lambda rate: optax.chain(optax.trace(0.9))])
def test_other_transformations_are_weighed_too(make: Any) -> None:
    tx = make(1e-3)
    memory = adapter.memory(tx, PARAMS)
    assert in_state(memory) == size(tx.init(PARAMS))
    assert {*memory.state} <= {"state"}


def test_ours_takes_what_optax_takes() -> None:
    ours, theirs = (adapter.memory(tx, PARAMS) for tx in (adapter.adamw(), optax.adamw(1e-3)))
    assert ours.total == theirs.total


def test_an_array_at_several_places_counts_once() -> None:
    x = jnp.ones(100)
    memory = adapter.memory(adapter.sgd(), {"a": x, "b": x})
    assert (memory.parameters, memory.numbers) == (400, 100)
