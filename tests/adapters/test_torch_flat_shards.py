"""Flat pieces in place of parameters, as DeepSpeed's ZeRO hands them out, and exchanges that are none.

DeepSpeed is imitated by what its optimizers do to the one that they are given: `stage_1_and_2.py` puts one vector of
float32 numbers into each group after construction, padded, and `stage3.py` does so for one sub-group at a time.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

import scirs2_adapters
from scirs2_adapters.core.program.recorded import needs_whole

from .torch_support import ours

NAMES = [n for n in scirs2_adapters.names() if scirs2_adapters.get(n)().sparse != "rows"]
WHOLE = [n for n in NAMES if needs_whole(scirs2_adapters.get(n)())]


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3), torch.nn.Linear(3, 2))


def made(name: str, net: torch.nn.Module, **keywords: Any) -> Any:
    return ours(scirs2_adapters.get(name).__name__)(net.parameters(), **keywords)


def with_gradients(params: list[torch.Tensor]) -> None:
    for p in params:
        p.grad = torch.full_like(p, 0.1)


def flatten(optimizer: Any, world: int = 1) -> None:
    """What ZeRO does to an optimizer's groups: of each a piece of all its numbers, padded to the number of ranks."""
    for group in optimizer.param_groups:
        flat = torch.cat([p.detach().float().reshape(-1) for p in group["params"]])
        padded = torch.nn.functional.pad(flat, (0, -len(flat) % (2 * world)))
        piece = torch.nn.Parameter(padded[: len(padded) // world].clone())
        with_gradients([piece])
        group["params"] = [piece]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_flat_pieces_are_refused_where_the_formula_is_of_whole_parameters(name: str, world: int) -> None:
    optimizer = made(name, model())
    flatten(optimizer, world)
    if name not in WHOLE:
        optimizer.step()
        return
    before = optimizer.param_groups[0]["params"][0].clone()
    with pytest.raises(ValueError, match=r'flat pieces.*ZeRO.*"stage": 0.*fully_shard'):
        optimizer.step()
    assert torch.equal(optimizer.param_groups[0]["params"][0], before)
    assert not optimizer.state


@pytest.mark.parametrize("name", WHOLE)
def test_a_subgroup_at_a_time_is_refused_as_well(name: str) -> None:
    """ZeRO 3 empties its groups and puts a vector into one of them."""
    optimizer = made(name, model())
    flatten(optimizer)
    pieces = [group["params"] for group in optimizer.param_groups]
    optimizer.param_groups[0]["params"] = []
    optimizer.step()
    optimizer.param_groups[0]["params"] = pieces[0]
    with pytest.raises(ValueError, match="flat pieces"):
        optimizer.step()


@pytest.mark.parametrize("name", WHOLE)
def test_groups_that_were_added_or_loaded_are_known_too(name: str) -> None:
    net, other = model(), model()
    optimizer = made(name, net)
    optimizer.add_param_group({"params": list(other.parameters())})
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.param_groups[0]["params"] = []
    flatten(type("Some", (), {"param_groups": optimizer.param_groups[1:]}))
    with pytest.raises(ValueError, match="flat pieces"):
        optimizer.step()


def test_clipping_by_the_norm_of_all_gradients_is_refused_too() -> None:
    optimizer = made("adamw", model(), max_grad_norm=1.0)
    flatten(optimizer)
    with pytest.raises(ValueError, match="max_grad_norm is of all gradients"):
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_other_parameters_of_the_same_shapes_are_what_they_were(name: str) -> None:
    """accelerate moves a model to its device by making new parameters, and the group is given these."""
    net = model()
    optimizer = made(name, net)
    fresh = [torch.nn.Parameter(p.detach().clone()) for p in net.parameters()]
    optimizer.param_groups[0]["params"] = fresh
    with_gradients(fresh)
    optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_a_bias_that_is_added_and_a_head_that_is_exchanged_are_no_flat_pieces(name: str) -> None:
    net = model()
    optimizer = made(name, net)
    params = optimizer.param_groups[0]["params"]
    params[-2:] = [torch.nn.Parameter(torch.ones(5, 3)), torch.nn.Parameter(torch.ones(5))]
    params.append(torch.nn.Parameter(torch.ones(7)))
    with_gradients(params)
    optimizer.step()
