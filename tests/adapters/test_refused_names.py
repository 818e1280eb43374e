"""What errors call an argument: as it was typed, in each framework."""

from __future__ import annotations

import re

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch

import scirs2_adapters as s2
from scirs2_adapters import jax as adapter
from scirs2_adapters import torch as ours
from scirs2_adapters.adapters.jax.argument_names import argument_names, factory_name
from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.core import HostOptimizer, Wrapper
from scirs2_adapters.core.registry import with_value

LEARNING = [n for n in (*s2.names(), *with_value()) if s2.get(n).first_step]
WRAPPERS = [n for n in s2.names() if issubclass(s2.get(n), Wrapper)]


@pytest.mark.parametrize("name", LEARNING)
def test_what_is_too_small_for_16_bits_is_refused_by_the_name_that_was_typed(name: str) -> None:
    rule = s2.get(name)
    core, fields = rule.first_step, rule.fields_with()

    def refused(call: str, typed: str) -> object:
        return pytest.raises(
            ValueError, match=rf"`{call}` .* or `{re.escape(typed)}` of at least 0.0078125, not (1e-06|0.0001)"
        )

    with refused(rule.__name__, core):
        HostOptimizer(rule(), [np.ones(3, ml_dtypes.bfloat16)])
    p = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    p.grad = torch.ones_like(p)
    optimizer = getattr(ours, rule.__name__)([p])
    with refused(rule.__name__, TORCH.spell(core, fields)):
        optimizer.step()
    assert not optimizer.state
    tx, x = getattr(adapter, factory_name(name))(), jnp.ones(3, jnp.bfloat16)
    with refused(factory_name(name), argument_names(rule).spell(core, fields)):
        tx.update(x, tx.init(x), x)


@pytest.mark.parametrize("name", WRAPPERS)
def test_an_optimizer_in_the_place_of_the_rate_is_pointed_to_its_own(name: str) -> None:
    """optax's wrappers take it there."""
    made = getattr(adapter, factory_name(name))
    for arguments in (("adamw",), ("adamw", 0.1)):
        with pytest.raises(TypeError, match=rf'`{factory_name(name)}\(learning_rate=...\)` .* Write `base="adamw"`'):
            made(*arguments)
    with pytest.raises(TypeError, match="Write `base=adamw`"):
        made(s2.get("adamw")())


def test_where_the_first_distance_is_another_argument_that_one_is_named() -> None:
    with pytest.raises(ValueError, match=r"or `eps` of at least 0.0078125, not 0.0001"):
        HostOptimizer(s2.get("dowg")(init_estim_sq_dist=None), [np.ones(3, ml_dtypes.bfloat16)])
