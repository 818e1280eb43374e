"""The slow twins against the packages in `packages.py`, in float64, over parameters and state."""

from __future__ import annotations

import importlib
import itertools
import warnings
from collections.abc import Iterator

import pytest
import torch

from scirs2_adapters.core import get
from tests.reference import reference
from tests.reference.apollo import chosen

from .packages import CASES, PackageCase
from .problem import EXACT, STEPS, WALK, Record, close, gradients, parameters

#: Falling losses, which only Momo and its kin look at.
LOSSES = [3.0 - 0.1 * t for t in range(STEPS)]


def named(case: PackageCase) -> str:
    return f"{case.peer}: {case.label}"


def iterate_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytorch_optimizer's own text, whose default is to iterate in bfloat16."""
    iteration = importlib.import_module("pytorch_optimizer.optimizer.utils.matrix").zero_power_via_newton_schulz_5
    defaults = tuple(torch.float64 if x is torch.bfloat16 else x for x in iteration.__defaults__)
    monkeypatch.setattr(iteration, "__defaults__", defaults)


def take_the_numbers_of_a_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are random in a package are spread evenly in ours, so that they are the same in each framework."""
    count = itertools.count(1)

    def spread(like: torch.Tensor, **options: object) -> torch.Tensor:
        return torch.tensor(chosen(like.numel(), 1, next(count)), **options).reshape(like.shape)

    monkeypatch.setattr(torch, "randn_like", spread)


def walked(case: PackageCase) -> Iterator[tuple[list, list]]:
    """The package's parameters and their state after each step."""
    params = [torch.nn.Parameter(torch.tensor(p)) for p in parameters()]
    optimizer = case.optimizer(params)
    for grads, loss in zip(gradients(), LOSSES, strict=True):
        for p, g in zip(params, grads, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step(**({"loss": torch.tensor(loss, dtype=torch.float64)} if get(case.twin).needs_value else {}))
        yield [p.detach().numpy() for p in params], [optimizer.state.get(p, {}) for p in params]


def gaps(case: PackageCase) -> Iterator[float]:
    """The gap of each parameter and slot at each step."""
    losses = {"values": LOSSES} if get(case.twin).needs_value else {}
    xs, states = reference(case.twin)(parameters(), gradients(), hyper=case.hyper, **losses)
    for t, (x, state, (peer_x, peer_state)) in enumerate(zip(xs, states, walked(case), strict=True), start=1):
        for i in case.leaves:
            where = f"step {t}, leaf {i}"
            yield close(x[i], peer_x[i], f"{where}, parameter", case.within)
            for ours, theirs in case.slots.items():
                yield close(state["leaves"][i][ours], peer_state[i][theirs], f"{where}, {ours}", case.within)


@pytest.mark.parametrize("case", CASES, ids=named)
def test_a_twin_agrees_with_a_package(
    case: PackageCase, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    with warnings.catch_warnings(action="ignore"):  # of packages older than this torch
        iterate_in_float64(monkeypatch)
        take_the_numbers_of_a_twin(monkeypatch)
        seen = max(gaps(case))
    record_property(WALK, (case.twin, case.peer, seen))
    assert (seen > EXACT) == (case.within > EXACT), "a bound that is no longer needed"
    assert bool(case.why) == (case.within > EXACT or len(case.leaves) < len(parameters()))
