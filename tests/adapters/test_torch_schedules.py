"""The core's schedules and torch's schedulers give the same numbers in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as theirs

from scirs2_adapters.core import schedules as s

PAIRS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "constant": (s.Constant(0.3), lambda o: theirs.ConstantLR(o, factor=1.0)),
    "linear": (s.Linear(0.3, 30, 0.15), lambda o: theirs.LinearLR(o, 1.0, 0.5, 30)),
    "polynomial": (s.Polynomial(0.3, 30, power=2.0), lambda o: theirs.PolynomialLR(o, 30, power=2.0)),
    "cosine": (s.Cosine(0.3, 39, 0.06), lambda o: theirs.CosineAnnealingLR(o, 39, eta_min=0.06)),
    "exponential": (s.Exponential(0.3, 0.5), lambda o: theirs.ExponentialLR(o, 0.5)),
    "piecewise": (s.Piecewise((5, 20), (0.3, 0.06, 0.012)), lambda o: theirs.MultiStepLR(o, [5, 20], gamma=0.2)),
    "warm-up": (s.Warmup(s.Constant(0.3), 10, 0.03), lambda o: theirs.LinearLR(o, 0.1, 1.0, 10)),
}


def rates(make: Callable[[Any], Any], count: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler, values = make(optimizer), []
    for _ in range(count):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize("kind", PAIRS)
def test_a_schedule_is_torchs(kind: str) -> None:
    ours, make = PAIRS[kind]
    np.testing.assert_allclose([ours(t) for t in range(40)], rates(make, 40), rtol=1e-12, atol=1e-16)


def test_torchs_cycle_ends_a_step_earlier() -> None:
    """Ours, as optax's, reaches its end after `steps` steps. torch's is there in the last of `total_steps`, and its
    peak is one step earlier too.
    """
    cycle = rates(lambda o: theirs.OneCycleLR(o, 0.3, total_steps=31, pct_start=(9 + 1) / 31, cycle_momentum=False), 31)
    np.testing.assert_allclose([s.OneCycle(0.3, 30)(t) for t in range(31)], cycle, rtol=1e-12)
