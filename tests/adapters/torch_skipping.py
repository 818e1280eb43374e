"""What the tests of `skip_nonfinite=True` share: gradients with a bad element, and all that a step may change."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from .torch_support import ALL, EVERY, ours, params_of, plain_for

BAD = [float("inf"), -float("inf"), float("nan")]
each_name = pytest.mark.parametrize("name", EVERY)
each_bad = pytest.mark.parametrize("bad", BAD, ids=str)


def give(optimizer: Any, seed: int, bad: float | None = None, at: int = 0) -> None:
    """Gradients, of which one element may be not finite: the last of the parameter `at`."""
    generator = torch.Generator().manual_seed(seed)
    for i, p in enumerate(params_of(optimizer)):
        g = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
        if bad is not None and i == at and g.numel():
            g.view(-1)[-1] = bad
        p.grad = g if type(optimizer).__name__ in ALL else g.to_sparse()


def made(name: str, params: Any = None, **options: Any) -> Any:
    return ours(name)(plain_for(name) if params is None else params, skip_nonfinite=True, **options)


def bits(optimizer: Any) -> str:
    """All that a step may change but the count: parameters, memory and groups, to the bit."""
    groups = [{k: v for k, v in g.items() if k not in ("params", "skipped_steps")} for g in optimizer.param_groups]
    held = [{k: numbers(x) for k, x in optimizer.state.get(p, {}).items()} for p in params_of(optimizer)]
    return str((len(optimizer.state), [numbers(p) for p in params_of(optimizer)], held, groups))


def numbers(x: Any) -> Any:
    return (x.dtype, x.detach().clone().reshape(-1).view(torch.uint8).tolist()) if isinstance(x, torch.Tensor) else x
