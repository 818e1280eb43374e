"""Tensors as the core sees them: names of dtypes, leaves, and the part of a DTensor that this process holds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch

from scirs2_adapters.core.slots import Leaf

Tensor = torch.Tensor


def dtype_name(dtype: torch.dtype) -> str:
    """The core's name of a dtype."""
    return str(dtype).removeprefix("torch.")


def dtensor_class() -> type | None:
    """torch's DTensor, if anyone has loaded it: a tensor that lies on several devices, a part on each."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def is_dtensor(x: Any) -> bool:
    """Whether this process holds only its part of the tensor."""
    return type(x) is dtensor_class()


def local(x: Any) -> Any:
    """The part of a tensor that this process holds."""
    return x._local_tensor if is_dtensor(x) else x


def placements(x: Any) -> Any:
    """How a tensor is spread, or None."""
    return (x.device_mesh, tuple(x.placements)) if is_dtensor(x) else None


def kinds(members: Iterable[Any]) -> list[Any]:
    """What a plan takes for granted of parameters whose addresses it does not know."""
    return [(m.p.dtype, m.p.shape, m.p.device) for m in members]


def leaf_of(p: Tensor, name: str = "", held: Iterable[str] = ()) -> Leaf:
    """A parameter as a rule sees it, with the memory that it has; a complex one is a real one with an axis more."""
    shape, dtype = tuple(p.shape), dtype_name(p.dtype)
    shape, dtype = ((*shape, 2), dtype_name(p.real.dtype)) if p.is_complex() else (shape, dtype)
    return Leaf(shape, dtype, name, held=frozenset(held), complex=p.is_complex())
