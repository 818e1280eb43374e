"""`scirs2 check` on torch: our optimizers pass it whole, and each fault is found by the check that is there for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scirs2_adapters import get, names
from scirs2_adapters.check.outcome import SubjectError
from scirs2_adapters.check.report import Report
from scirs2_adapters.check.run import check, driver_of
from scirs2_adapters.check.words import rule_of
from scirs2_adapters.core import Wrapper
from tests.conformance.cells import by_library

from .check_support import visible_rate

pytestmark = pytest.mark.usefixtures("frozen_heap", "one_thread")


def failures(report: Report) -> dict[str, str]:
    return {o.name: f"expected {o.expected}; came {o.came}" for o in report.failed}


@pytest.mark.parametrize("name", names())
def test_ours_pass_whole_and_walk_as_their_rule(name: str) -> None:
    path, arguments = f"scirs2_adapters.torch:{get(name).__name__}", visible_rate(name, "lr")
    report = check(path, "torch", against=name, arguments=arguments)
    rounded = {"running.threads"} if by_library(name) else set()  # torch's products depend on the number of threads
    assert failures(report).keys() <= rounded
    passed = {o.name for o in report.outcomes if o.status == "pass"}
    assert passed >= {"against", "state.resume", "state.pickled", "numbers.float32", "calls.seen_by_autograd"} - (
        {"calls.seen_by_autograd"} if get(name).sparse == "rows" else set()
    )


class Sound(torch.optim.Optimizer):
    """Momentum, as torch asks for it. Each class below has one fault."""

    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, p.grad, group)
        return loss

    def move(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> None:
        buffer = self.state[p].setdefault("buffer", torch.zeros_like(p))
        buffer.mul_(group["momentum"]).add_(g)
        p.add_(buffer, alpha=-self.rate(group))

    def rate(self, group: dict[str, Any]) -> float:
        return float(group["lr"])


class TakesAnyRate(Sound):
    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__(params, 1e-3, momentum)
        self.defaults["lr"] = self.param_groups[0]["lr"] = lr


class TakesAnything(Sound):
    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9, **ignored: object) -> None:
        super().__init__(params, lr, momentum)


class KeepsItsFirstRate(Sound):
    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__(params, lr, momentum)
        self.first = lr

    def rate(self, group: dict[str, Any]) -> float:
        return float(self.first)


class KeepsTheMomentumOfItsFirstGroup(Sound):
    def move(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> None:
        super().move(p, g, {**group, "momentum": self.param_groups[0]["momentum"]})


class RefusesGroups(Sound):
    """With an error that names no argument."""

    said = "the groups must be alike"

    def move(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> None:
        if len({other["momentum"] for other in self.param_groups}) > 1:
            raise ValueError(self.said)
        super().move(p, g, group)


class RefusesGroupsByName(RefusesGroups):
    said = "`momentum` must be that of the first group"


class AddsNoise(Sound):
    def move(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> None:
        super().move(p, g * (1 + 0.1 * torch.rand(())), group)


class WritesIntoGradients(Sound):
    def move(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> None:
        super().move(p, g.mul_(0.5), group)


class HoldsGradients(Sound):
    def move(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> None:
        vars(self).setdefault("last", {})[id(p)] = g
        super().move(p, g, group)


class WritesBesideAutograd(Sound):
    def move(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> None:
        super().move(p.data, g, group)
        self.state[p] = self.state.pop(p.data, {})


class ForgetsItsState(Sound):
    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict({**state_dict, "state": {}})


class CountsOutsideOfItsState(Sound):
    steps = 0

    def rate(self, group: dict[str, Any]) -> float:
        self.steps += 1
        return float(group["lr"] / self.steps)


class DividesByZero(Sound):
    def move(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> None:
        super().move(p, g / g.norm(), group)


class StepsInItsOwnOrder(Sound):
    def move(self, p: torch.Tensor, g: torch.Tensor, group: dict[str, Any]) -> None:
        buffer = self.state[p].setdefault("buffer", torch.zeros(p.numel()))
        buffer.mul_(group["momentum"]).add_(g.reshape(-1))
        torch.as_strided(p, (p.numel(),), (1,)).add_(buffer, alpha=-self.rate(group))


class EvaluatesTwice(Sound):
    def step(self, closure: Any = None) -> Any:
        if closure is not None:
            with torch.enable_grad():
                closure()
        return super().step(closure)


class StepsWithoutGradients(Sound):
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - 1e-3)
        return super().step(closure)


KEPT: list[object] = []


class IsNeverFreed(Sound):
    def __init__(self, params: Any, lr: float = 1e-3, momentum: float = 0.9) -> None:
        super().__init__(params, lr, momentum)
        KEPT.append(self)


class ExitsWhereItLoads(Sound):
    def load_state_dict(self, state_dict: Any) -> None:
        raise SystemExit(0)


class IsNoOptimizer:
    """Made as one is, and nothing more."""

    def __init__(self, params: Any, lr: float = 1e-3) -> None: ...


FAULTS = {
    Sound: set(),
    TakesAnyRate: {"constructor.negative_rate", "constructor.nan_rate", "constructor.text_rate"},
    TakesAnything: {"constructor.unknown_argument"},
    KeepsItsFirstRate: {"rates.by_hand", "rates.schedule", "groups.group_rate"},
    KeepsTheMomentumOfItsFirstGroup: {"groups.group_values"},
    RefusesGroups: {"groups.group_values"},
    RefusesGroupsByName: set(),
    AddsNoise: {"running.repeated"},
    WritesIntoGradients: {"gradients.unchanged"},
    HoldsGradients: {"gradients.not_held"},
    WritesBesideAutograd: {"calls.seen_by_autograd"},
    ForgetsItsState: {"state.resume", "state.resume_again"},
    CountsOutsideOfItsState: {"state.resume", "state.resume_again"},
    DividesByZero: {"gradients.zeros"},
    StepsInItsOwnOrder: {"layouts.transposed", "layouts.channels_last", "layouts.strided"},
    EvaluatesTwice: {"calls.closure"},
    StepsWithoutGradients: {"gradients.missing", "groups.no_gradients"},
    IsNeverFreed: {"running.dropped"},
    ExitsWhereItLoads: {"state.resume", "state.resume_again"},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda cls: cls.__name__)
def test_a_fault_is_found(fault: type[Sound], monkeypatch: pytest.MonkeyPatch) -> None:
    failed = set(failures(check(f"{fault.__module__}:{fault.__name__}", "torch")))
    KEPT.clear()
    assert failed >= FAULTS[fault]
    assert FAULTS[fault] or not failed


@pytest.mark.parametrize("path", [f"{__name__}:IsNoOptimizer", "builtins:print"])
def test_what_has_no_step_is_not_checked(path: str) -> None:
    with pytest.raises(SubjectError, match=r"must make a torch\.optim\.Optimizer, or what has its `step`"):
        check(path, "torch")


@pytest.mark.parametrize(
    ("name", "arguments", "walks"),
    [("SGD", "lr=0.1,momentum=0.9", True), ("Adam", "lr=0.1", False)],
    ids=["of this formula", "of another formula"],
)
def test_a_walk_is_told_from_another(name: str, arguments: str, walks: bool) -> None:
    report = check("torch.optim:SGD", "torch", against=name, arguments=arguments)
    assert ("against" in failures(report)) is not walks


def test_what_the_other_formula_has_no_argument_for_is_an_error() -> None:
    with pytest.raises(SubjectError, match=r"momentum=.* is no argument of adam"):
        check("torch.optim:SGD", "torch", against="Adam", arguments="lr=0.1,momentum=0.9")


@pytest.mark.parametrize("name", [name for name in names() if issubclass(get(name), Wrapper)])
def test_a_wrapper_is_compared_by_the_arguments_of_its_base(name: str) -> None:
    driver = driver_of(f"scirs2_adapters.torch:{get(name).__name__}", "torch", "lr=0.5,base='lion',weight_decay=0.25")
    rule = rule_of(driver, name)[name]
    assert (rule.base.name, rule.base.learning_rate, rule.base.weight_decay) == ("lion", 0.5, 0.25)


def test_what_torchs_own_does_is_known() -> None:
    """Versions change it; docs/checks.md says the same. Torch 2.6 has an AdamW that is no Adam and can be rebuilt."""
    rebuilt = {"constructor.rebuilt"} if issubclass(torch.optim.AdamW, torch.optim.Adam) else set()
    assert set(failures(check("torch.optim:AdamW", "torch"))) == {"numbers.float16"} | rebuilt
