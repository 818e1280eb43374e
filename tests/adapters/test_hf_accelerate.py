"""Accelerate's prepared optimizer and scheduler around ours: at an overflow they do what they do around torch's.

Accelerate learns that a scaler has left out a step from not being called, and lets the schedule wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from accelerate.state import AcceleratorState, GradientState, PartialState

from tests.adapters.torch_scaling import OVERFLOWS, STEPS, backward, peer, scaler_of
from tests.adapters.torch_support import PEERED, distance, each_optimizer, ours, params_of, plain_for, theirs

pytestmark = pytest.mark.usefixtures("accelerator", "exact_muon", "one_thread")


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    """One on the CPU; its states are shared by all that are made."""
    made = Accelerator(cpu=True)
    yield made
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


def train(optimizer: Any) -> dict[str, Any]:
    """A run in which each step that overflows is told by the wrappers."""
    schedule: Any = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    scaler = scaler_of()
    prepared = AcceleratedOptimizer(optimizer, scaler=scaler)
    schedule = AcceleratedScheduler(schedule, prepared)
    seen: dict[str, Any] = {"skipped": [], "rates": [], "scales": []}
    for step in range(STEPS):
        prepared.zero_grad()
        backward(params_of(optimizer), step, scaler)
        prepared.step()
        schedule.step()
        seen["skipped"].append(prepared.step_was_skipped)
        seen["rates"].append(optimizer.param_groups[0]["lr"])
        seen["scales"].append(scaler.get_scale())
    return seen


@each_optimizer
@pytest.mark.parametrize("options", [{}, {"fused": False}, {"skip_nonfinite": True}], ids=str)
def test_a_step_that_overflows_is_told_and_the_schedule_waits_for_it(name: str, options: dict[str, Any]) -> None:
    record = train(ours(name)(plain_for(name), lr=0.1, **options))
    assert record["skipped"] == [step in OVERFLOWS for step in range(STEPS)]
    assert record["rates"][-1] == pytest.approx(0.1 * 0.5 ** (STEPS - len(OVERFLOWS)))
    assert record == train(peer(name)(plain_for(name), lr=0.1))


@pytest.mark.parametrize("name", PEERED)
def test_parameters_end_where_torchs_do(name: str) -> None:
    mine, other = ours(name)(plain_for(name), lr=0.01), theirs(name)(plain_for(name), lr=0.01)
    assert train(mine) == train(other)
    assert distance(mine, other) < 2e-4


def test_those_who_ask_for_the_fused_protocol_get_it_with_what_comes_with_it() -> None:
    mine, other = (cls(plain_for("AdamW"), lr=0.1, fused=True) for cls in (ours("AdamW"), torch.optim.AdamW))
    record = train(mine)
    assert record == train(other)  # Accelerate sees the call, and takes it for a step
    assert not any(record["skipped"])
    assert distance(mine, other) < 2e-4


@each_optimizer
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_prepared_run_is_that_of_torchs_class(name: str, precision: str) -> None:
    ends = []
    for cls in (ours(name), peer(name)):
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
        accelerator = Accelerator(cpu=True, mixed_precision=precision, gradient_accumulation_steps=2)
        torch.manual_seed(0)
        layers = [torch.nn.Linear(4, 6, bias=False), torch.nn.Tanh(), torch.nn.Linear(6, 1, bias=False)]
        model = torch.nn.Sequential(*layers)
        optimizer = cls(model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        model, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
        rates = []
        for step in range(6):
            with accelerator.accumulate(model):
                x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
                accelerator.backward(model(x).float().square().mean())
                accelerator.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            rates.append(optimizer.param_groups[0]["lr"])
        ends.append((rates, [p.detach().clone() for p in model.parameters()]))
    assert ends[0][0] == ends[1][0]
    for a, b in zip(ends[0][1], ends[1][1], strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5 if precision == "no" else 1e-2)
