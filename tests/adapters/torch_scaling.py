"""What the tests of loss scaling share: a run under a `GradScaler` in which some steps overflow, and what it looks like
to the code around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tests.conformance.options import still_steps

from .torch_support import ALL, Optimizer, ours, params_of, plain_for, theirs

#: The steps at which the loss overflows.
OVERFLOWS = (0, 3, 4)
STEPS = 9
Make = Callable[[Sequence[torch.Tensor]], Optimizer]


def peer(name: str) -> type[Optimizer]:
    """torch's class of this name; where it has none, ours without a scaler is what is compared with."""
    return theirs(name) if name in ALL and hasattr(torch.optim, name) else ours(name)


def scaler_of(**options: Any) -> torch.amp.GradScaler:
    """One that grows and shrinks within a few steps. Its factors are powers of two, so dividing by them is exact."""
    return torch.amp.GradScaler("cpu", **{"init_scale": 1024.0, "growth_interval": 2, **options})


def backward(params: Sequence[torch.Tensor], step: int, scaler: Any = None, overflows: Any = OVERFLOWS) -> torch.Tensor:
    """The gradients of a step, by a loss that is finite or not."""
    generator = torch.Generator().manual_seed(step)
    factors = [torch.randn(p.shape, generator=generator) for p in params]
    loss = sum((p.float() * f).sum() for p, f in zip(params, factors, strict=True))
    loss = loss * (float("inf") if step in overflows else 1.0)
    (loss if scaler is None else scaler.scale(loss)).backward()
    return loss


def moving(name: str) -> list[int]:
    """The steps that move parameters: those that do not overflow, but for the first ones of a rule that only looks."""
    return [step for step in range(STEPS) if step not in OVERFLOWS][still_steps(name) :]


class Run:
    """A training run, and what the code around the optimizer has seen of it."""

    def __init__(self, optimizer: Any, scaler: Any, before: Callable[[Any, Any], None] = lambda o, s: None) -> None:
        self.optimizer, self.scaler, self.before = optimizer, scaler, before
        self.inner = getattr(optimizer, "inner", optimizer)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.inner, 0.9)
        self.scales: list[float] = []
        self.moved: list[bool] = []
        self.rates: list[float] = []
        for step in range(STEPS):
            self.step(step)

    def step(self, step: int) -> None:
        params = params_of(self.inner)
        start = [p.detach().clone() for p in params]
        self.inner.zero_grad()
        backward(params, step, self.scaler)
        self.before(self.optimizer, self.scaler)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # as everyone writes it who wants the schedule to wait
            self.schedule.step()
        self.scales.append(self.scaler.get_scale())
        self.rates.append(self.inner.param_groups[0]["lr"])
        self.moved.append(not all(map(torch.equal, start, params)))

    def seen(self) -> dict[str, Any]:
        return {"scales": self.scales, "moved": self.moved, "rates": self.rates}


def unscaled(name: str, **options: Any) -> Any:
    """The same run without a scaler, by someone who leaves out what overflows."""
    optimizer = ours(name)(plain_for(name), **options)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for step in set(range(STEPS)) - set(OVERFLOWS):
        optimizer.zero_grad()
        backward(params_of(optimizer), step)
        optimizer.step()
        schedule.step()
    return optimizer
