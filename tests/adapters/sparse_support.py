"""What the tests of sparse gradients share: who takes them, tables and gradients of some of their rows, a walk."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scirs2_adapters import names
from scirs2_adapters.core import get
from tests.adapters.torch_support import EVERY, ids, params_of

Tensor = torch.Tensor
RULES = {get(name).__name__: get(name) for name in names()}
TAKERS = [name for name in EVERY if RULES[name].sparse]
EXACT = [name for name in TAKERS if RULES[name].sparse == "exact"]
ONLY = [name for name in TAKERS if RULES[name].sparse == "rows"]
#: Options that reach the branches of those that have some.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"momentum": 0.9},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "nesterov": True, "maximize": True},
    ],
    "Adagrad": [{"lr_decay": 0.1, "initial_accumulator_value": 0.3, "maximize": True}],
    "SparseAdam": [{"betas": (0.5, 0.9), "eps": 1e-3, "maximize": True}],
}
CASES = [(name, {"lr": 0.1} | options) for name in TAKERS for options in ({}, *OPTIONS.get(name, []))]
each_case = pytest.mark.parametrize(("name", "options"), CASES, ids=ids)
each_taker = pytest.mark.parametrize("name", TAKERS)
CLOSE = {torch.float64: 1e-12, torch.float32: 2e-6}
ROWS, WIDTH = 12, 5


def sparse(index: list[list[int]], values: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor(index), values, shape, dtype=dtype)


def table(dtype: torch.dtype = torch.float64, shape: tuple[int, ...] = (ROWS, WIDTH)) -> torch.nn.Parameter:
    return torch.nn.Parameter(
        torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)
    )


def rows(step: int, p: Tensor, count: int = 7) -> Tensor:
    """A gradient of some rows, one of them twice."""
    generator = torch.Generator().manual_seed(step)
    index = torch.randint(0, len(p), (count,), generator=generator).tolist()
    values = torch.randn((count + 1, *p.shape[1:]), generator=generator, dtype=torch.float64)
    return sparse([[*index, index[0]]], values.to(p.dtype), tuple(p.shape))


def walk(*optimizers: torch.optim.Optimizer, steps: int = 12, first: int = 0, dense: bool = False) -> None:
    for optimizer in optimizers:
        for step in range(first, first + steps):
            for p in params_of(optimizer):
                g = rows(step, p)
                p.grad = g.to_dense() if dense else g
            optimizer.step()


def plain(x: Any) -> Tensor:
    x = torch.as_tensor(x).detach()
    return (x.to_dense() if x.is_sparse else x).double()


def distance(a: torch.optim.Optimizer, b: torch.optim.Optimizer) -> float:
    """The largest difference of parameters and memory, relative to the largest value of each."""
    worst = 0.0
    for p, q in zip(params_of(a), params_of(b), strict=True):
        mine, other = a.state.get(p, {}), b.state.get(q, {})
        assert list(mine) == list(other)
        for x, y in [(p, q), *((mine[k], other[k]) for k in mine)]:
            x, y = plain(x), plain(y)
            assert x.shape == y.shape
            worst = max(worst, float((x - y).abs().max() / y.abs().max().clamp(min=1e-30)))
    return worst
