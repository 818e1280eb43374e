"""State dicts of other packages for PyTorch: a run goes on here as it would there, or the dict is refused."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

from scirs2_adapters import torch as ours
from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.core import get
from scirs2_adapters.core.errors import ArgumentTypeError, ArgumentValueError
from tests.peers.matches import arguments
from tests.peers.packages import CASES, DECAY, PackageCase
from tests.peers.problem import gradients, parameters
from tests.peers.test_reference_packages import iterate_in_float64, named

#: Steps there, and steps in both.
BEFORE, AFTER = 8, 6
#: Packages whose memory is another one, or says too little, and what the error says of it.
REFUSED = {
    "adabound.AdaBound": "final_ratio", "Adan": "previous_grad", "AdEMAMix": "t_alpha", "NovoGrad": "exp_avg",
    "LARS": "dampening", "LaProp": "centered", "Yogi": "initial_accumulator_value", "SignSGD": "momentum",
    "AdaBound": "final_ratio", "Fromage": "min_norm", "DAdaptSGD": "p0", "DoG": "init_step_type",
    "GrokAdamW": "grokking_signal", "Shampoo": "max_precond_dim", "SOAP": "what SOAP keeps of this parameter",
    "SCION": "rho", "Muon": "group", "NorMuon": "group", "AdaMuon": "group", "Adam_mini": "group",
}  # fmt: skip
UNBIASED = {
    name: PackageCase("decay", name.lower(), DECAY, f"optimi.{name}", {"lr": 1e-3, "triton": False, **DECAY})
    for name in ("AdamW", "Lion")
}
#: Momo's steps depend on losses, and wrappers are of two optimizers.
SAVED = [c for c in CASES if not get(c.twin).needs_value and c.build.__name__ not in ("around_adamw", "second_alone")]
SAVED = [c for c in SAVED if c.twin != "mars"] + [*UNBIASED.values()]


def step(optimizer: torch.optim.Optimizer, params: list[torch.nn.Parameter], grads: list) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.tensor(g)
    optimizer.step()


def here(case: PackageCase, params: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    rule = get(case.twin)(**case.hyper)
    return getattr(ours, type(rule).__name__)(params, **arguments(rule, case.hyper, TORCH))


@pytest.mark.parametrize("case", SAVED, ids=named)
def test_a_run_goes_on_or_the_dict_is_refused(case: PackageCase, monkeypatch: pytest.MonkeyPatch) -> None:
    iterate_in_float64(monkeypatch)
    params = [torch.nn.Parameter(torch.tensor(p)) for p in parameters()]
    with warnings.catch_warnings(action="ignore"):  # of packages older than this torch
        optimizer = case.optimizer(params)
        for grads in gradients()[:BEFORE]:
            step(optimizer, params, grads)
    copies = [torch.nn.Parameter(p.detach().clone()) for p in params]
    continued, saved = here(case, copies), copy.deepcopy(optimizer.state_dict())
    if reason := REFUSED.get(case.peer.rpartition(".")[2]):
        with pytest.raises((ArgumentValueError, ValueError), match=reason):
            continued.load_state_dict(saved)
        assert not continued.state
        return
    continued.load_state_dict(saved)
    for grads in gradients()[BEFORE : BEFORE + AFTER]:
        step(optimizer, params, grads)
        step(continued, copies, grads)
        for i in case.leaves:
            torch.testing.assert_close(copies[i], params[i], rtol=case.within, atol=case.within)


#: Optimizers whose dicts are translated, and others.
OTHERS = [
    "CAME",
    "Prodigy",
    "ScheduleFreeSGD",
    "QHAdam",
    "StableAdamW",
    "MADGRAD",
    "DAdaptAdamW",
    "AdamW",
    "SGD",
    "Muon",
]


@pytest.mark.parametrize("case", SAVED, ids=named)
def test_a_dict_of_another_optimizer_is_loaded_whole_or_refused_in_words(
    case: PackageCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterate_in_float64(monkeypatch)
    params = [torch.nn.Parameter(torch.tensor(p)) for p in parameters()]
    with warnings.catch_warnings(action="ignore"):
        optimizer = case.optimizer(params)
        for grads in gradients()[:3]:
            step(optimizer, params, grads)
    for name in OTHERS:
        other = getattr(ours, name)(params)
        before = copy.deepcopy(other.param_groups)
        refused = False
        try:
            other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        except (ValueError, ArgumentTypeError):  # torch's own ValueError where the numbers of groups differ
            refused = True
        if not refused:
            step(other, params, gradients()[3])
            continue
        assert not other.state
        assert [g | {"params": 0} for g in other.param_groups] == [g | {"params": 0} for g in before]


@pytest.mark.parametrize("count", [None, "three", [1]])
def test_a_key_of_the_users_called_step_is_no_count(count: object) -> None:
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = torch.optim.SGD([p], momentum=0.9)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["param_groups"][0] |= {"step": count, "k": 3}
    loaded = ours.SGD([p], momentum=0.9)
    loaded.load_state_dict(saved)
    assert loaded.param_groups[0]["step"] == count
    assert loaded.param_groups[0]["k"] == 3


@pytest.mark.parametrize("name", ["Adam", "Prodigy", "MADGRAD"])
def test_memory_that_does_not_say_of_which_step_it_is_refused(name: str) -> None:
    p = torch.nn.Parameter(torch.ones(3))
    saved, optimizer = ({"state": {}}, getattr(ours, name)([p]))
    p.grad = torch.ones(3)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    del saved["state"][0]["step"], saved["param_groups"][0]["algorithm"]
    with pytest.raises(ArgumentValueError, match=r"\['step'\].* must be the number of steps"):
        getattr(ours, name)([p]).load_state_dict(saved)


def test_a_decay_without_the_learning_rate_is_refused() -> None:
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    optimizer = PackageCase(
        "", "adamw", {}, "optimi.AdamW", {"lr": 1.0, "triton": False, "decouple_lr": True, "weight_decay": 1e-5}
    ).optimizer([p])
    optimizer.step()
    with pytest.raises(ArgumentValueError, match="decouple_lr=True"):
        ours.AdamW([p]).load_state_dict(optimizer.state_dict())
