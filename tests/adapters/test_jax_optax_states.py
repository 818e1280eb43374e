"""The state classes of optax that rules declare are what `init` makes."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax
import pytest

from scirs2_adapters import get, names
from scirs2_adapters import jax as adapter
from scirs2_adapters.adapters.jax.argument_names import factory_name
from scirs2_adapters.adapters.jax.optax_states import _declared
from scirs2_adapters.core.errors import ArgumentValueError

DECLARED = [name for name in names() if get(name).optax_state is not None]


def members(state: Any) -> list[type]:
    return [type(state)] if hasattr(state, "_fields") else [type(member) for member in state]


def optaxs(name: str) -> Any:
    """Of optax, or of its contributions."""
    return getattr(optax, factory_name(name), None) or getattr(optax.contrib, factory_name(name))


@pytest.mark.parametrize("name", DECLARED)
def test_init_makes_the_declared_class_as_optax_does(name: str) -> None:
    params, declared = {"w": jnp.ones((3, 2))}, get(name).optax_state
    assert declared is not None
    mine = members(getattr(adapter, name)(1e-3).init(params))
    assert optaxs(declared.name) in mine
    assert mine == members(optaxs(name)(1e-3).init(params))


@pytest.mark.parametrize(
    "wrong", [{"name": "ScaleByAdamsState"}, {"name": "adam"}, {"fields": {"moo": "count"}}], ids=str
)
def test_a_declared_state_that_optax_does_not_have_is_refused(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = get(DECLARED[0])
    _declared.cache_clear()
    monkeypatch.setattr(cls, "optax_state", dataclasses.replace(cls.optax_state, **wrong))  # type: ignore[type-var]
    with pytest.raises(ArgumentValueError, match=r"optax_state` must name a state class of optax and its fields"):
        _declared(DECLARED[0])
    _declared.cache_clear()
