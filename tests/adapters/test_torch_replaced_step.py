"""Functions that are put in the place of `optimizer.step`: a compiled step, a wrapper's, anyone's. torch's schedulers
take what they find for a method, and wrap it.
"""

from __future__ import annotations

import copy
import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch

from scirs2_adapters.torch import SAM

from .torch_compile import forgotten
from .torch_support import PEERED, each_optimizer, ours, params_of, plain_for, same, theirs

__all__ = ["forgotten"]
pytestmark = pytest.mark.usefixtures("one_thread")
Replace = Callable[[Any], Any]


def give(optimizer: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in params_of(optimizer):
        p.grad = torch.randn(p.shape, generator=generator)


class Wrapper:
    """Something with a step of its own around an optimizer's."""

    def __init__(self, step: Any) -> None:
        self.inner, self.calls = step, 0

    def step(self, *args: Any, **keywords: Any) -> Any:
        self.calls += 1
        return self.inner(*args, **keywords)


WAYS: dict[str, Replace] = {
    "compiled": lambda step: torch.compile(step, backend="eager"),
    "function": lambda step: lambda closure=None: step(closure),
    "partial": lambda step: functools.partial(step, closure=None),
    "method of another": lambda step: Wrapper(step).step,
    "callable": lambda step: mock.Mock(side_effect=step, spec=[]),
    "itself": lambda step: step,
}
each_way = pytest.mark.parametrize("way", WAYS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.usefixtures("forgotten")
@each_way
@each_optimizer
def test_a_replaced_step_runs_under_schedulers(name: str, way: str) -> None:
    a, b = ours(name)(plain_for(name)), ours(name)(plain_for(name))
    a.step = WAYS[way](a.step)
    schedules = [
        [torch.optim.lr_scheduler.ExponentialLR(o, 0.8), torch.optim.lr_scheduler.StepLR(o, 2)] for o in (a, b)
    ]
    for i in range(4):
        for optimizer, pair in zip((a, b), schedules, strict=True):
            give(optimizer, i)
            optimizer.step()
            for schedule in pair:
                schedule.step()  # warns if it has seen no step of the optimizer
    assert same(a, b)


@pytest.mark.parametrize("way", ["compiled", "function", "partial"])
@pytest.mark.parametrize("name", PEERED)
def test_torchs_own_classes_refuse_a_scheduler_there(name: str, way: str) -> None:
    optimizer = theirs(name)(plain_for(name))
    optimizer.step = WAYS[way](optimizer.step)
    with pytest.raises(AttributeError, match="__func__"):
        torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)


@each_way
def test_what_is_put_there_is_what_one_finds_and_can_be_taken_away(way: str) -> None:
    optimizer = ours("AdamW")(plain_for("AdamW"))
    original, replacement = optimizer.step, WAYS[way](optimizer.step)
    optimizer.step = replacement
    assert optimizer.step is replacement or way == "method of another"
    optimizer.step = original
    assert optimizer.step == original
    del optimizer.step
    assert optimizer.step == original


def test_the_wrapper_keeps_its_self_under_a_scheduler() -> None:
    optimizer = ours("AdamW")(plain_for("AdamW"))
    wrapper = Wrapper(optimizer.step)
    optimizer.step = wrapper.step
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    give(optimizer, 0)
    optimizer.step()
    assert wrapper.calls == 1


def test_a_patch_in_a_test_sees_the_calls() -> None:
    optimizer = ours("AdamW")(plain_for("AdamW"))
    with mock.patch.object(optimizer, "step") as patched:
        optimizer.step()
        assert patched.call_count == 1
    assert "step" not in vars(optimizer) or optimizer.step.__self__ is optimizer
    give(optimizer, 0)
    optimizer.step()
    assert optimizer.state


def test_copies_have_the_step_of_the_class_and_no_optimizer_is_kept_alive_by_its_scheduler() -> None:
    optimizer = ours("AdamW")(plain_for("AdamW"))
    optimizer.step = lambda closure=None: None
    assert "step" not in vars(copy.deepcopy(optimizer))
    other = ours("AdamW")(plain_for("AdamW"))
    schedule = torch.optim.lr_scheduler.StepLR(other, 1)
    seen = weakref.ref(other)
    gc.disable()
    try:
        del schedule, other
        assert seen() is None
    finally:
        gc.enable()


def test_closures_and_other_arguments_reach_the_replaced_step() -> None:
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = SAM([p])
    step = optimizer.step
    optimizer.step = lambda *args, **keywords: step(*args, **keywords)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)

    def closure() -> torch.Tensor:
        p.grad = torch.ones(2)
        return torch.tensor(1.5)

    assert optimizer.step(closure).item() == 1.5
