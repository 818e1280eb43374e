"""Tensors as the core sees them: names of dtypes, leaves, and the part of a DTensor that this process holds.

torch keeps names in a list beside a group's parameters; here they also stay with the parameters, so that a list that
the user changes puts no name to another one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import torch

from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.options import with_error

from .protocols import GroupValues, Names, RuleOptimizerLike

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Placement

Tensor = torch.Tensor
#: How a tensor is spread over devices.
Spread: TypeAlias = "tuple[DeviceMesh, tuple[Placement, ...]]"
#: What wrappers of a model put into the names of its parameters.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def dtype_name(dtype: torch.dtype) -> str:
    """The core's name of a dtype."""
    return str(dtype).removeprefix("torch.")


def on_host(x: Tensor) -> bool:
    """Whether the host reads it without waiting for a device."""
    return x.device.type == "cpu"


def dtensor_class() -> type[DTensor] | None:
    """torch's DTensor, if anyone has loaded it: a tensor that lies on several devices, a part on each."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def is_dtensor(x: object) -> TypeGuard[DTensor]:
    """Whether this process holds only its part of the tensor."""
    return type(x) is dtensor_class()


def local(x: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return x._local_tensor if is_dtensor(x) else x


def placements(x: object) -> Spread | None:
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


def is_offloaded(group: GroupValues, p: Tensor) -> bool:
    """Whether a parameter of this group is stepped on the host and does not lie there."""
    return bool(group["offload"]) and p.device.type not in ("cpu", "meta")


def remember_names(known: Names, group: GroupValues) -> None:
    """Notes the names of a group's parameters."""
    names = group.get("param_names") or ()
    if len(names) == len(group["params"]):
        known.update(zip(group["params"], names, strict=True))


def known_names(known: Names, group: GroupValues) -> list[str]:
    """A name for each parameter of the group, empty where there is none."""
    params, names = group["params"], group.get("param_names") or ()
    if not names and not known.data:
        return [""] * len(params)
    if len(names) == len(params) and not all(p in known for p in params):
        return list(names)  # as where sharding has put others in their place
    return [known.get(p, "") for p in params]


def leaves_of(optimizer: RuleOptimizerLike, group: GroupValues) -> list[Leaf]:
    """The parameters of a group as a rule sees them."""
    names = known_names(optimizer._names, group)
    leaves = [leaf_of(p, name, optimizer.state.get(p) or ()) for p, name in zip(group["params"], names, strict=True)]
    if group["rounding"] == "nearest":
        return leaves
    return [with_error(leaf, group["rounding"], group["state_dtype"]) for leaf in leaves]


def saved_names(group: GroupValues) -> list[str]:
    """The names in a saved group; none if there is not one for each parameter."""
    names = group.get("param_names") or ()
    return list(names) if len(names) == len(group["params"]) and all(names) else []


def bare(name: str) -> str:
    """The name of a parameter without what wrappers of the model have put into it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS) or name


def listed(names: Sequence[str], most: int = 5) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
