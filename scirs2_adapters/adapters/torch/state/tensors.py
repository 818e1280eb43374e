"""Tensors as the core sees them: names of dtypes, leaves, and the part of a DTensor that this process holds."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

import torch

from scirs2_adapters.core.slots import Leaf

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement

Tensor = torch.Tensor


def dtype_name(dtype: torch.dtype) -> str:
    """The core's name of a dtype."""
    return str(dtype).removeprefix("torch.")


def dtensor_class() -> type[DTensor] | None:
    """torch's DTensor, if anyone has loaded it: a tensor that lies on several devices, a part on each."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def is_dtensor(x: object) -> TypeGuard[DTensor]:
    """Whether this process holds only its part of the tensor."""
    return type(x) is dtensor_class()


def local(x: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return x._local_tensor if is_dtensor(x) else x


def placements(x: object) -> tuple[DeviceMesh, tuple[Placement, ...]] | None:
    """How a tensor is spread, or None."""
    return (x.device_mesh, tuple(x.placements)) if is_dtensor(x) else None


def kinds(params: Iterable[Tensor]) -> list[tuple[torch.dtype, torch.Size, torch.device]]:
    """What a plan takes for granted of parameters whose addresses it does not know."""
    return [(p.dtype, p.shape, p.device) for p in params]


def leaf_of(p: Tensor, name: str = "", slots: Iterable[str] = ()) -> Leaf:
    """A parameter as a rule sees it, with the slots that it has; a complex one is a real one with an axis more."""
    shape, dtype = tuple(p.shape), dtype_name(p.dtype)
    shape, dtype = ((*shape, 2), dtype_name(p.real.dtype)) if p.is_complex() else (shape, dtype)
    return Leaf(shape, dtype, name, held=frozenset(slots), complex=p.is_complex())
