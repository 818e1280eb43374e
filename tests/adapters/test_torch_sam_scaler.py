"""SAM under a `GradScaler`: both gradients of a step are unscaled, and an overflow at either point changes nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from scirs2_adapters import names
from scirs2_adapters.core import get
from scirs2_adapters.torch import SAM
from tests.conformance.options import still_steps

from .torch_scaling import scaler_of

pytestmark = pytest.mark.usefixtures("one_thread")


def takes(name: str) -> bool:
    """Whether SAM takes it as a base, and it steps by dense gradients."""
    try:
        SAM([torch.nn.Parameter(torch.ones(2))], base=name)
    except (TypeError, ValueError):
        return False
    return get(name).sparse != "rows"


BASES = [name for name in names() if takes(name)]
each_base = pytest.mark.parametrize("base", BASES)


class Problem:
    """A small network, its SAM and a closure, which overflows at some of its calls."""

    def __init__(self, base: str = "sgd", scaler: Any = None, overflows: tuple[int, ...] = (), **options: Any) -> None:
        torch.manual_seed(0)
        self.x, self.scaler, self.overflows, self.calls = torch.randn(16, 4), scaler, overflows, 0
        self.model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1))
        self.optimizer = SAM(self.model.parameters(), base=base, rho=0.05, **options)

    def closure(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = (self.model(self.x) - 1).square().mean()
        factor = float("inf") if self.calls in self.overflows else 1.0
        self.calls += 1
        (loss * factor if self.scaler is None else self.scaler.scale(loss * factor)).backward()
        return loss.detach()

    def step(self) -> torch.Tensor:
        loss = self.optimizer.step(self.closure, **({} if self.scaler is None else {"scaler": self.scaler}))
        if self.scaler is not None:
            self.scaler.update()
        return loss

    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]

    def held(self) -> str:
        return str(self.optimizer.state_dict()["state"])


def alike(a: Problem, b: Problem) -> bool:
    return all(map(torch.equal, a.weights(), b.weights())) and a.held() == b.held()


@each_base
def test_a_step_is_that_without_a_scaler(base: str) -> None:
    scaled, plain = Problem(base, scaler_of()), Problem(base)
    scales = []
    for _ in range(5):
        assert torch.equal(scaled.step(), plain.step())
        assert alike(scaled, plain)
        scales.append(scaled.scaler.get_scale())
    assert scales == [1024.0, 2048.0, 2048.0, 4096.0, 4096.0]  # one step, one unit of growth
    assert scaled.calls == 10


@each_base
@pytest.mark.parametrize("place", [0, 1])
def test_an_overflow_at_either_point_changes_nothing_and_lowers_the_scale(base: str, place: int) -> None:
    scaled, plain = Problem(base, scaler_of(growth_interval=100), (place,)), Problem(base)
    before, held = scaled.weights(), scaled.held()
    scaled.step()
    assert scaled.calls == 1 + place  # at the second point there is nothing to look for
    assert all(map(torch.equal, before, scaled.weights()))
    assert scaled.held() == held
    assert scaled.scaler.get_scale() == 512.0
    for _ in range(3):
        scaled.step()
        plain.step()
    assert alike(scaled, plain)
    assert scaled.scaler.get_scale() == 512.0


@each_base
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("with_scaler", [False, True])
def test_the_option_is_passed_on_to_the_base_and_looks_at_both_points(base: str, place: int, with_scaler: bool) -> None:
    problem = Problem(base, scaler_of() if with_scaler else None, (place,), skip_nonfinite=True)
    before, held = problem.weights(), problem.held()
    problem.step()
    assert all(map(torch.equal, before, problem.weights()))
    assert problem.held() == held
    assert problem.optimizer.param_groups[0]["skipped_steps"] == 1
    assert problem.calls == 1 + place
    for _ in range(still_steps(base) + 1):
        problem.step()
    assert problem.optimizer.param_groups[0]["skipped_steps"] == 1
    assert not all(map(torch.equal, before, problem.weights()))


def test_a_scaler_that_is_turned_off_and_one_that_is_shared_are_what_they_are_elsewhere() -> None:
    off, plain = Problem(scaler=torch.amp.GradScaler("cpu", enabled=False)), Problem()
    off.step()
    plain.step()
    assert alike(off, plain)
    scaler = scaler_of()
    pair = [Problem(scaler=scaler), Problem(scaler=scaler, overflows=(0,))]
    for problem in pair:
        problem.optimizer.step(problem.closure, scaler=scaler)
    scaler.update()
    assert scaler.get_scale() == 512.0
    assert alike(pair[0], plain)


def test_a_step_without_an_update_in_between_is_refused_as_torch_does_and_leaves_parameters() -> None:
    problem = Problem(scaler=scaler_of())
    problem.optimizer.step(problem.closure, scaler=problem.scaler)
    before = problem.weights()
    with pytest.raises(RuntimeError, match=r"step\(\) has already been called since the last update\(\)"):
        problem.optimizer.step(problem.closure, scaler=problem.scaler)
    assert all(map(torch.equal, before, problem.weights()))


def test_a_scaler_that_calls_the_step_is_shown_the_way() -> None:
    problem = Problem(scaler=scaler_of())
    problem.closure()
    torch.optim.lr_scheduler.StepLR(problem.optimizer, 1)  # puts a function of its own in between
    weights = problem.weights()
    with pytest.raises(TypeError, match=r"must be the scaler.*`optimizer\.step\(closure, scaler=scaler\)`"):
        problem.scaler.step(problem.optimizer, problem.closure)
    assert all(map(torch.equal, weights, problem.weights()))
    off = Problem(scaler=torch.amp.GradScaler("cpu", enabled=False))
    off.scaler.step(off.optimizer, off.closure)
    assert off.calls == 2


def test_what_is_no_scaler_is_refused() -> None:
    problem = Problem()
    with pytest.raises(TypeError, match=r"`SAM.step\(scaler=...\)` must be a torch.amp.GradScaler or None"):
        problem.optimizer.step(problem.closure, scaler=1024.0)
    assert problem.calls == 0


def test_hooks_schedules_and_copies_take_the_scaler_along() -> None:
    problem, seen = Problem(scaler=scaler_of()), []
    optimizer = copy.deepcopy(problem.optimizer)
    params = optimizer.param_groups[0]["params"]
    optimizer.register_step_pre_hook(lambda o, args, keywords: seen.append(sorted(keywords)))
    torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in params)
        problem.scaler.scale(loss).backward()
        return loss

    losses = []
    for _ in range(2):
        losses.append(optimizer.step(closure, scaler=problem.scaler).item())
        problem.scaler.update()
    assert seen == [["scaler"]] * 2
    assert losses[1] < losses[0]


def test_clipped_gradients_are_unscaled_before_they_are_measured() -> None:
    scaled, plain = Problem(scaler=scaler_of(), max_grad_norm=0.1), Problem(max_grad_norm=0.1)
    for _ in range(3):
        scaled.step()
        plain.step()
    assert alike(scaled, plain)
