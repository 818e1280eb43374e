"""Shared by the tests of released gradients: the same training by usual steps and by steps in backward."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from scirs2_adapters.core import get
from tests.adapters.torch_support import EVERY, Optimizer, ours, plain

WHOLE = [name for name in EVERY if get(name)().model_slots()]
Params = list[torch.Tensor]
Loss = Callable[[Params], torch.Tensor]


def loss(params: Params) -> torch.Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i, p in enumerate(params):
        total = total + (p.double() * (i + 1) - 0.3).sin().square().sum()
    return total


def usual(optimizer: Optimizer, params: Params, steps: int = 4, of: Loss = loss) -> Params:
    for _ in range(steps):
        optimizer.zero_grad()
        of(params).backward()
        optimizer.step()
    return params


def released_steps(optimizer: Any, params: Params, steps: int = 4, of: Loss = loss) -> Params:
    for _ in range(steps):
        optimizer.zero_grad()
        with optimizer.release_gradients():
            of(params).backward()
        assert all(p.grad is None for p in params)
        optimizer.step()
    return params


def pair(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[Any, Params, Any, Params]:
    mine, other = plain(dtype), plain(dtype)
    return ours(name)(mine, **options), mine, ours(name)(other, **options), other


def checkpointed(layers: Sequence[nn.Module], last: nn.Module) -> torch.Tensor:
    x = torch.ones(2, 4, requires_grad=True)
    for layer in layers:
        x = checkpoint(layer, x, use_reentrant=True)
    return last(x).square().sum()
