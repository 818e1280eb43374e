"""The array operations bound to torch, and the scalar mathematics of a step whose hyperparameters or count are tensors.

Numbers stay Python floats until they meet a tensor. A 0-d float64 tensor among larger float32 ones leaves them float32,
so coefficients keep float64 on any device that has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import torch

from scirs2_adapters.core.ops import HOST_SCALARS, Ops, Scalar

Tensor = torch.Tensor


def _either(host: Callable[..., Scalar], tensors: Callable[..., Scalar]) -> Callable[..., Scalar]:
    """`tensors` where any value is one, the others made like it; `host` of plain numbers."""

    def function(*values: Scalar) -> Scalar:
        like = next((v for v in values if isinstance(v, Tensor)), None)
        return host(*values) if like is None else tensors(*(_like(v, like) for v in values))

    return function


def _like(value: Scalar, other: Tensor) -> Tensor:
    # Filled on the device: a copy from the host could not be captured.
    return value if isinstance(value, Tensor) else torch.full((), value, dtype=other.dtype, device=other.device)


def _where(condition: Scalar, a: Scalar, b: Scalar) -> Scalar:
    return torch.where(condition, a, b) if isinstance(condition, Tensor) else a if condition else b


def _sum(x: Tensor, axis: int | None) -> Tensor:
    return torch.sum(x) if axis is None else torch.sum(x, dim=axis, keepdim=True)


def _cond(number: Scalar, f: Callable[[], Tensor], g: Callable[[], Tensor]) -> Tensor:
    """By the number where Python knows it; of a tensor's both values are computed, as a captured graph needs them."""
    return torch.where(number != 0, f(), g()) if isinstance(number, Tensor) else f() if number else g()


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """In its own dtype, also where the step is made under autocast."""
    kind = a.device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return torch.matmul(a, b)
    with torch.autocast(kind, enabled=False):
        return torch.matmul(a, b)


OPS = Ops(
    sqrt=_either(math.sqrt, torch.sqrt),
    abs=torch.abs,
    sign=lambda x: torch.where(x == x, torch.sign(x), x),  # torch's sign of NaN is 0
    maximum=_either(max, torch.maximum),
    minimum=_either(min, torch.minimum),
    where=_where,
    sum=_sum,
    mean=lambda x, axis: _sum(x, axis) / max(1, math.prod(x.shape) if axis is None else x.shape[axis]),
    matmul=_matmul,
    transpose=lambda x: x.transpose(-1, -2),
    reshape=torch.reshape,
    permute=torch.permute,
    eigenvectors=lambda x: torch.linalg.eigh(x)[1],
    orthonormal=lambda x: torch.linalg.qr(x, mode="complete")[0],
    order=lambda x: torch.argsort(x, descending=True, stable=True),
    take=lambda x, indices, axis: torch.index_select(x, axis, indices),
    cond=_cond,
    square=lambda x: _sum(x * x, -1),
)

_FUNCTIONS = {k: _either(getattr(HOST_SCALARS, k), getattr(torch, k)) for k in ("sqrt", "exp", "log", "expm1")}
#: The `xp` of `coefficients` where values may be tensors.
SCALARS = SimpleNamespace(**_FUNCTIONS, maximum=OPS.maximum, minimum=OPS.minimum, where=_where)
