"""Shared by the torch adapter's tests: the optimizers torch has too, ways to lay a tensor out in memory, a walk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from scirs2_adapters import names
from scirs2_adapters import torch as adapter
from scirs2_adapters.adapters.torch.argument_names import TORCH
from scirs2_adapters.core import get
from scirs2_adapters.core.registry import plain as plain_name
from tests.conformance.cells import by_library
from tests.conformance.options import brisk, turned

Optimizer = torch.optim.Optimizer

#: Optimizers that torch has under the same name, with options that reach each of their branches.
PEERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True, "maximize": True}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "betas": (0.5, 0.9)}),
    ("RMSprop", {"lr": 0.01, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True}),
    ("Adagrad", {"lr": 0.1, "weight_decay": 0.1, "lr_decay": 0.1}),
    ("Adadelta", {"lr": 0.5, "weight_decay": 0.1}),
    ("Adamax", {"lr": 0.01, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.9)}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True, "momentum_decay": 0.1}),
    ("ASGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("ASGD", {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 3}),
    ("Rprop", {"lr": 0.01}),
    ("Rprop", {"lr": 0.01, "etas": (0.7, 1.5), "step_sizes": (1e-3, 0.02), "maximize": True}),
    ("Adafactor", {"lr": 0.05, "weight_decay": 0.1}),
    ("Adafactor", {"eps": (1e-3, 1e-2), "d": 2.0, "beta2_decay": -0.5}),
]
#: Where torch itself can hold the error down: relative to the largest value.
CLOSE = {torch.float64: 1e-10, torch.float32: 2e-5}

SHAPES = ((5, 3), (7,), (2, 3, 4, 4), (), (0, 3))


def ids(value: Any) -> str | None:
    """A readable id of an options row."""
    return ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None


EVERY = [get(name).__name__ for name in names()]
#: Those that take the dense gradients that most tests give.
ALL = [name for name in EVERY if get(name).sparse != "rows"]
#: Those that torch has too.
PEERED = [name for name in ALL if hasattr(torch.optim, name)]


def turned_options(name: str) -> dict[str, Any]:
    """All that is structural the other way round, and weight decay: what the defaults leave out, in torch's words."""
    rule = get(name)
    fields, chosen = rule.fields_with(), turned(rule)
    usual = {k: f.default for k, f in fields.items()}
    before, after = TORCH.to_framework(usual, fields), TORCH.to_framework(usual | chosen, fields)
    return {k: v for k, v in after.items() if v != before[k]}


def learned(name: str) -> dict[str, Any]:
    """What a rule needs to step 16-bit parameters, whose numbers do not show first steps of a millionth."""
    return {k: v for k, v in brisk(get(name)).items() if k != "learning_rate"}


VARIANTS = [(name, options) for name in ALL for options in ({}, turned_options(name))]
each_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=ids)
each_optimizer = pytest.mark.parametrize("name", ALL)
each_peer = pytest.mark.parametrize(("name", "options"), PEERS, ids=ids)
each_path = pytest.mark.parametrize("kernel", ["host", "traced"])


@functools.cache  # the adapter reads the metadata of what is installed when it is asked
def ours(name: str) -> type[Optimizer]:
    return getattr(adapter, name)


def theirs(name: str) -> type[Optimizer]:
    return getattr(torch.optim, name)


def twins(
    name: str, options: dict[str, Any], params: Callable[[], list[torch.Tensor]], **only: Any
) -> tuple[Optimizer, Optimizer]:
    """Ours (with the options `only` it takes) and torch's, over equal parameters."""
    return ours(name)(params(), **options, **only), theirs(name)(params(), **options)


def plain(dtype: torch.dtype = torch.float32, shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[torch.Tensor]:
    """Parameters, the same ones at each call."""
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [torch.nn.Parameter(x.to(dtype)) for x in made]


def plain_for(name: str, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Parameters that torch's class of this name takes as well: its Muon has no use for anything but matrices."""
    return plain(dtype, ((5, 3), (3, 4)) if name == "Muon" else ((5, 3), (7,), (2, 3, 4), ()))


def params_of(optimizer: Optimizer) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def walk(*optimizers: Optimizer, steps: int = 10, seed: int = 5, lay: Callable[..., Any] = lambda g, p: g) -> None:
    """Steps all of them by the same gradients; `lay` puts a gradient into the form it is given in."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        shapes = [p.shape for p in params_of(optimizers[0])]
        grads = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        for optimizer in optimizers:
            for p, g in zip(params_of(optimizer), grads, strict=True):
                p.grad = _fitted(optimizer, lay(g.to(p.dtype), p))
            optimizer.step()


def _fitted(optimizer: Optimizer, g: torch.Tensor | None) -> torch.Tensor | None:
    """A gradient in a form that the optimizer takes: some take sparse ones alone."""
    name = type(optimizer).__name__
    if g is None or g.is_sparse or name in ALL or name not in EVERY:
        return g
    with torch.sparse.check_sparse_tensor_invariants():  # torch warns where it is not told whether to check
        return g.to_sparse()


def distance(a: Optimizer, b: Optimizer) -> float:
    """The largest difference of parameters and memory, relative to the largest value of each."""
    worst = 0.0
    for p, q in zip(params_of(a), params_of(b), strict=True):
        worst = max(worst, _off(p, q))
        mine, other = a.state.get(p, {}), b.state.get(q, {})
        assert list(mine) == list(other)
        for name in mine:
            if isinstance(mine[name], int) or isinstance(other[name], int):  # torch's SparseAdam counts in these
                assert int(mine[name]) == int(other[name])
                continue
            assert mine[name].dtype == other[name].dtype, name
            assert mine[name].shape == other[name].shape, name
            worst = max(worst, _off(mine[name], other[name]))
    return worst


def _off(x: torch.Tensor, y: torch.Tensor) -> float:
    x, y = x.detach().double(), y.detach().double()
    return float((x - y).abs().max() / y.abs().max().clamp(min=1e-30)) if x.numel() else 0.0


def same(a: Optimizer, b: Optimizer) -> bool:
    """Whether parameters and memory are the same bits."""
    return distance(a, b) == 0.0


def alike(name: str, a: Optimizer, b: Optimizer) -> bool:
    """The same bits; but to rounding where torch multiplies matrices, or numpy does in a forked child."""
    return distance(a, b) <= (1e-3 if by_library(plain_name(name)) else 0.0)
