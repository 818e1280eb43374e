"""Every scheduler of torch's drives every optimizer, with a number or a tensor as learning rate.

Whatever a scheduler writes into a group is used by the next step. Where torch has the optimizer, torch's own class
under a scheduler of its own is the measure; everywhere, the same values written by hand give the same bits.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils

from .torch_support import CLOSE, PEERED, distance, each_optimizer, ours, plain_for, same, theirs, walk

pytestmark = pytest.mark.usefixtures("one_thread")

Optimizer = torch.optim.Optimizer
Make = Callable[[Optimizer], Any]


def cycled(optimizer: Optimizer) -> bool:
    """Whether there is a momentum to cycle."""
    return bool({"momentum", "betas"} & optimizer.defaults.keys())


SCHEDULERS: dict[str, Make] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 1 - 0.1 * epoch),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.3),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.3, total_iters=4),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 5, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 4, 1e-3),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20, cycle_momentum=cycled(o)),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, cycle_momentum=cycled(o)),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1),
    "SWALR": lambda o: swa_utils.SWALR(o, 0.02, anneal_epochs=3),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, total_iters=3), lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], optimizer=o
    ),
}
each_scheduler = pytest.mark.parametrize("scheduler", SCHEDULERS)
LR: dict[str, Callable[[], Any]] = {"number": lambda: 0.05, "tensor": lambda: torch.tensor(0.05, dtype=torch.float64)}
each_kind = pytest.mark.parametrize("kind", LR)
STEPS = 8
#: Hyperparameters that schedulers write.
WRITTEN = ("lr", "betas", "momentum")


def test_every_scheduler_of_torchs_is_here() -> None:
    public = [getattr(lr_scheduler, name) for name in lr_scheduler.__all__]
    classes = [c for c in public if inspect.isclass(c) and c is not lr_scheduler.LRScheduler]
    assert {c.__name__ for c in classes} | {"SWALR"} == set(SCHEDULERS)


def scheduled(optimizer: Optimizer, scheduler: str) -> Iterator[None]:
    """Puts the scheduler on, then lets it act once for each turn."""
    schedule = SCHEDULERS[scheduler](optimizer)
    yield
    while True:
        schedule.step(*([1.0] if scheduler == "ReduceLROnPlateau" else []))
        yield


def values(optimizer: Optimizer) -> dict[str, Any]:
    return {
        k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in optimizer.param_groups[0].items() if k in WRITTEN
    }


@each_kind
@each_scheduler
@pytest.mark.parametrize("name", PEERED)
@pytest.mark.usefixtures("exact_muon", "in_float64")
def test_a_scheduler_drives_it_as_it_drives_torchs(name: str, scheduler: str, kind: str) -> None:
    pair = [make(name)(plain_for(name, torch.float64), lr=LR[kind]()) for make in (ours, theirs)]
    turns = [scheduled(optimizer, scheduler) for optimizer in pair]
    for i in range(STEPS):
        for turn in turns:
            next(turn)
        walk(*pair, steps=1, seed=i)
    assert distance(*pair) < CLOSE[torch.float64]


@each_kind
@each_scheduler
@each_optimizer
def test_what_a_scheduler_writes_is_what_the_next_step_uses(name: str, scheduler: str, kind: str) -> None:
    driven, by_hand = (ours(name)(plain_for(name), lr=lr()) for lr in (LR[kind], LR["number"]))
    lr, turn = driven.param_groups[0]["lr"], scheduled(driven, scheduler)
    for i in range(STEPS):
        next(turn)
        by_hand.param_groups[0].update({k: float(v) if k == "lr" else v for k, v in values(driven).items()})
        walk(driven, by_hand, steps=1, seed=i)
    assert same(driven, by_hand)
    assert kind == "number" or driven.param_groups[0]["lr"] is lr


@each_optimizer
def test_a_tensor_learning_rate_steps_like_the_number(name: str) -> None:
    """Of any dtype that holds the number, with or without an axis; in a group of its own; betas and momentum too."""
    usual = ours(name)(plain_for(name), lr=0.0625)
    walk(usual, steps=3)
    for lr in (torch.tensor(0.0625), torch.tensor([0.0625]), torch.tensor(0.0625, dtype=torch.float64)):
        optimizer = ours(name)([{"params": plain_for(name), "lr": lr}])
        for key, value in {k: usual.defaults[k] for k in ("betas", "momentum") if k in usual.defaults}.items():
            exact = tuple(torch.tensor(v, dtype=torch.float64) for v in value) if key == "betas" else value
            optimizer.param_groups[0][key] = exact
        walk(optimizer, steps=3)
        assert same(usual, optimizer)
        assert optimizer.param_groups[0]["lr"] is lr


@each_optimizer
def test_a_schedule_goes_on_after_a_checkpoint(name: str) -> None:
    whole = ours(name)(plain_for(name), lr=0.05)
    schedule = lr_scheduler.CosineAnnealingLR(whole, 6)
    for i in range(3):
        walk(whole, steps=1, seed=i)
        schedule.step()
    resumed = ours(name)([p.detach().clone().requires_grad_() for p in whole.param_groups[0]["params"]], lr=0.05)
    again = lr_scheduler.CosineAnnealingLR(resumed, 6)
    resumed.load_state_dict(whole.state_dict())
    again.load_state_dict(schedule.state_dict())
    resumed.state.update({p: {k: v.clone() for k, v in held.items()} for p, held in resumed.state.items()})
    for i in range(3):
        walk(whole, resumed, steps=1, seed=i)
        schedule.step()
        again.step()
    assert same(whole, resumed)
    assert whole.param_groups[0]["lr"] == resumed.param_groups[0]["lr"]


@each_optimizer
def test_a_scheduler_knows_whether_a_step_was_made(name: str) -> None:
    """It wraps the step of the object, and warns of an order that skips the first value."""
    early, proper = ours(name)(plain_for(name)), ours(name)(plain_for(name))
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        lr_scheduler.StepLR(early, 1).step()
    schedule = lr_scheduler.StepLR(proper, 1)
    walk(proper, steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.step()
