"""Tensors in `state` keep their identity: what another holder of them sees is what the optimizer steps."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim._stateless import swap_in_optimizer_params_and_state

from scirs2_adapters import get
from tests.boundaries.support import ROOT

from .torch_support import (
    ALL,
    alike,
    distance,
    each_optimizer,
    each_path,
    each_peer,
    ours,
    params_of,
    plain_for,
    twins,
    walk,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def held(optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.Tensor]]:
    """Every tensor in the state, with its key."""
    state = optimizer.state.values()
    return [(k, x) for each in state for k, x in each.items() if isinstance(x, torch.Tensor)]


def loaded(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return optimizer


WAYS: dict[str, Callable[[Any], Any]] = {"made": lambda o: o, "loaded": loaded, "copied": copy.deepcopy}


@pytest.mark.parametrize("way", WAYS)
@each_path
@each_optimizer
def test_a_step_exchanges_no_tensor_of_the_state(name: str, kernel: str, way: str) -> None:
    optimizer = ours(name)(plain_for(name), kernel=kernel)
    walk(optimizer, steps=1)
    optimizer = WAYS[way](optimizer)
    before = held(optimizer)
    values = {k: x.clone() for k, x in before}
    walk(optimizer, steps=3, seed=2)
    assert [id(x) for _, x in held(optimizer)] == [id(x) for _, x in before]
    steps = [float(x) for k, x in before if k == "step"]
    assert set(steps) <= {4.0}
    assert bool(steps) == ("step" in values)


@each_peer
def test_state_that_is_swapped_in_is_stepped_like_torchs(name: str, options: dict[str, Any]) -> None:
    """torch swaps other parameters and another state in, steps, and takes them out."""
    pair = twins(name, options, lambda: plain_for(name))
    walk(*pair, steps=2)
    if not pair[1].state:
        return  # torch swaps nothing into an optimizer that remembers nothing
    swapped = []
    for optimizer in pair:
        saved = copy.deepcopy(optimizer.state_dict())
        others = {str(i): p.detach().clone() for i, p in enumerate(params_of(optimizer))}
        for _ in range(3):
            with swap_in_optimizer_params_and_state(optimizer, others, saved):
                walk(optimizer, steps=1, seed=7)
        swapped.append((others, saved["state"]))
    (mine, my_state), (torchs, their_state) = swapped
    for k in mine:
        assert torch.allclose(mine[k], torchs[k], rtol=1e-5, atol=1e-6)
    for k, each in their_state.items():
        for key, x in each.items():
            assert torch.allclose(torch.as_tensor(my_state[k][key]), torch.as_tensor(x), rtol=1e-5, atol=1e-6), key
    assert distance(*pair) < 1e-5  # and what was there before has not moved


def share(optimizer: torch.optim.Optimizer) -> None:
    for p in params_of(optimizer):
        p.share_memory_()
    for _, x in held(optimizer):
        x.share_memory_()


#: Numbers of the whole model stand in the groups, which every process has for itself.
SHARED = [name for name in ALL if not get(name)().model_slots()]


@pytest.mark.parametrize("name", sorted({*ALL} - {*SHARED}))
def test_numbers_of_the_model_are_not_a_part_of_the_state(name: str) -> None:
    """What is swapped in for a step does not get them back, nor does a process that shares the state see them."""
    optimizer = ours(name)(plain_for(name))
    numbers = [slot.name for slot in get(name)().model_slots()]
    walk(optimizer, steps=1)
    saved = copy.deepcopy(optimizer.state_dict())
    others = {str(i): p.detach().clone() for i, p in enumerate(params_of(optimizer))}
    with swap_in_optimizer_params_and_state(optimizer, others, saved):
        walk(optimizer, steps=3, seed=7, lay=lambda g, p: torch.ones_like(p))
        moved = {k: optimizer.param_groups[0][k] for k in numbers}
    kept = {k: saved["param_groups"][0][k] for k in numbers}
    assert moved != kept == {k: optimizer.param_groups[0][k] for k in numbers}


def shared_walk(name: str) -> None:
    """A child steps, and the parent goes on from there."""
    optimizer, alone = ours(name)(plain_for(name)), ours(name)(plain_for(name))
    walk(optimizer, alone, steps=1)
    share(optimizer)
    walk(optimizer, alone, steps=1, seed=3)
    if (child := os.fork()) == 0:
        code = 1
        try:
            walk(optimizer, steps=5, seed=4)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    walk(alone, steps=5, seed=4)
    assert alike(name, optimizer, alone), name
    walk(optimizer, alone, steps=2, seed=6)
    assert alike(name, optimizer, alone), name


def test_processes_that_share_memory_count_together() -> None:
    """As A3C and Hogwild train; in an interpreter that holds nothing else, which a fork could not take along."""
    code = "from tests.adapters.test_torch_identity import SHARED, shared_walk\nfor name in SHARED: shared_walk(name)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("step", [0, 0.0, torch.zeros(1), torch.tensor(0.0), torch.tensor(0)], ids=repr)
def test_state_that_a_subclass_makes_beforehand_is_used(step: Any) -> None:
    """The shared Adam of A3C code bases fills the state in its constructor, with a step in any form."""

    def made(cls: type[torch.optim.Optimizer]) -> torch.optim.Optimizer:
        optimizer = cls(plain_for("AdamW"), lr=0.01)
        for p in params_of(optimizer):
            moments = {name: torch.zeros_like(p).share_memory_() for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[p] = {"step": copy.deepcopy(step), **moments}
        return optimizer

    mine, alone = made(ours("AdamW")), ours("AdamW")(plain_for("AdamW"), lr=0.01)
    before = held(mine)
    walk(mine, alone, steps=4)
    assert [float(x) for k, x in held(mine) if k == "step"] == [4.0] * 4
    assert {id(x) for _, x in before} <= {id(x) for _, x in held(mine)}
    assert all(torch.equal(p, q) for p, q in zip(params_of(mine), params_of(alone), strict=True))


def test_entries_of_others_in_the_state_are_left_alone() -> None:
    optimizer = ours("AdamW")(plain_for("AdamW"))
    optimizer.state["slow_step"] = 3
    optimizer.state[params_of(optimizer)[0]]["ema"] = ema = torch.ones(5, 3)
    walk(optimizer, steps=3)
    assert optimizer.state["slow_step"] == 3
    assert optimizer.state[params_of(optimizer)[0]]["ema"] is ema
