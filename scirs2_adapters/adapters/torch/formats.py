"""The operations of the storage formats bound to torch's tensors."""

from __future__ import annotations

import math
import operator
from types import SimpleNamespace

import torch

from scirs2_adapters.core.formats import BLOCK

Tensor = torch.Tensor


def _rows(x: Tensor, count: int) -> Tensor:
    return torch.nn.functional.pad(x.reshape(-1), (0, count * BLOCK - x.numel())).view(count, BLOCK)


def _where(condition: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    return torch.where(condition, a, b)


def _float32(x: Tensor | float) -> Tensor | float:
    return x.to(torch.float32) if isinstance(x, Tensor) else x


FORMAT_OPS = SimpleNamespace(
    number=float,
    integer=int,
    where=_where,
    sqrt=torch.sqrt,
    abs=torch.abs,
    int32=lambda x: x.to(torch.int32),
    float32=_float32,
    bits=lambda x: x.view(torch.int32),
    from_bits=lambda x: x.view(torch.float32),
    wrap=lambda x: x,
    shift_left=operator.lshift,
    shift_right=operator.rshift,
    both=operator.and_,
    half_bits=lambda x: x.to(torch.float16).view(torch.int16).to(torch.int32) & 0xFFFF,
    from_half_bits=lambda x: x.to(torch.int16).view(torch.float16).to(torch.float32),
    cast=lambda x, dtype: x.to(getattr(torch, dtype)),
    rows=_rows,
    unrows=lambda x, shape: x.reshape(-1)[: math.prod(shape)].view(shape),
    largest=lambda x: x.amax(dim=1, keepdim=True),
    indices=lambda x: torch.arange(BLOCK, dtype=torch.int32, device=x.device),
    code=lambda x: x.view(torch.int16).to(torch.int32),
    uncode=lambda x, dtype: x.to(torch.int16).view(getattr(torch, dtype)),
)
