"""The memory of one parameter: made where it is missing, and checked before it is walked by address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Extent, Leaf, Slot
from scirs2_adapters.core.step.options import slot_dtype

from .tensors import Tensor, is_dtensor, local, placements

ParamState = dict[str, Any]


def arrays_of(rule: Rule, leaf: Leaf) -> tuple[Slot, ...]:
    """The slots that are tensors."""
    return tuple(s for s in rule.slots(leaf) if s.extent is not Extent.MODEL)


def count_dtype() -> torch.dtype:
    """The dtype of `step`, as torch has it."""
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32


def elements(count: int, device: Any = "cpu") -> list[Tensor]:
    """So many steps of 0, which are elements of one tensor: one addition counts for all of them."""
    return list(torch.zeros(count, dtype=count_dtype(), device=device).unbind())


def begin_counts(optimizer: Any, counting: Sequence[tuple[Tensor, Mapping[str, Any]]]) -> None:
    """A step of 0 for each of these parameters, given with their groups, that has none; a number becomes a tensor."""
    fresh: dict[torch.device, list[ParamState]] = {}
    for p, group in counting:
        held: ParamState = optimizer.state[p]
        if held.get("step") is None:
            fresh.setdefault(_counted_on(p, group), []).append(held)
        else:
            held["step"] = _as_step(held["step"], p, group)
    for device, each in fresh.items():
        for held, step in zip(each, elements(len(each), device), strict=True):
            held["step"] = step


def gather_counts(optimizer: Any) -> None:
    """After a load or a copy: steps become elements of one tensor, but for those that another process shares."""
    gathered: list[ParamState] = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            held = optimizer.state.get(p)
            if not isinstance(held, dict) or held.get("step") is None:
                continue
            held["step"] = step = _as_step(held["step"], p, group)
            usual = type(step) is Tensor and step.ndim == 0 and step.dtype == count_dtype()
            if usual and step.device.type == "cpu" and not step.is_shared():
                gathered.append(held)
    values = [held["step"].item() for held in gathered]
    for held, step, value in zip(gathered, elements(len(gathered)), values, strict=True):
        held["step"] = step.fill_(value)


def _counted_on(p: Tensor, group: Mapping[str, Any]) -> torch.device:
    """Where torch keeps the step of this parameter."""
    return p.device if group["capturable"] or group["fused"] else torch.device("cpu")


def _as_step(step: Any, p: Tensor, group: Mapping[str, Any]) -> Tensor:
    """The step itself, or a number as a tensor: what torch's older versions and other libraries have there."""
    if isinstance(step, Tensor):
        return step
    return torch.tensor(float(step), dtype=count_dtype(), device=_counted_on(p, group))


def init_state(optimizer: Any, p: Tensor, rule: Rule, leaf: Leaf, group: Mapping[str, Any]) -> ParamState | None:
    """A parameter's memory, made where it is missing; None for a rule that remembers nothing of it."""
    slots = arrays_of(rule, leaf)
    if not slots and rule.time_dependence != "step":
        return None
    held: ParamState = optimizer.state[p]
    for slot in slots:
        if held.get(slot.name) is None:
            held[slot.name] = _made(rule, slot, p, leaf, group["state_dtype"])
        elif getattr(held[slot.name], "is_sparse", False):  # torch's SGD remembers sparse gradients so
            held[slot.name] = held[slot.name].to_dense()
        check_shape(type(optimizer).__name__, f"state[p][{slot.name!r}]", slot, held[slot.name], p)
    return held


def _made(rule: Rule, slot: Slot, p: Tensor, leaf: Leaf, state_dtype: Any) -> Tensor:
    full = slot.extent is Extent.FULL
    dtype = p.dtype if full and p.is_complex() else getattr(torch, slot_dtype(slot, leaf.dtype, state_dtype))
    made = torch.zeros_like(p, dtype=dtype, memory_format=torch.preserve_format) if full else _small(slot, p, dtype)
    if slot.initial == "parameter":
        return made.copy_(p.detach())
    if slot.initial is not None:
        (torch.view_as_real(made) if made.is_complex() else made).fill_(slot.initial_value(rule))
    return made


def _small(slot: Slot, p: Any, dtype: torch.dtype) -> Tensor:
    """Zeros, spread as the parameter is over the axes that the slot has."""
    here = local(p.detach())
    made: Tensor = here.new_zeros(slot.shape(tuple(here.shape)), dtype=dtype)
    mesh, placements = _parts_of(slot, p) or (None, None)
    if mesh is None:
        return made
    whole = torch.empty(slot.shape(tuple(p.shape)), device="meta")
    spread: Any = type(p)
    return spread.from_local(made, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride())


def _parts_of(slot: Slot, p: Any) -> Any:
    """How a slot of this parameter is spread, or None; one number stands on every rank, as `step` does."""
    if not is_dtensor(p) or slot.extent is Extent.TENSOR:
        return None
    from torch.distributed.tensor import Replicate

    axes = (*slot.shape((2,) * p.ndim), 2)  # the last for what has no axis: on every rank
    return p.device_mesh, tuple(x if axes[getattr(x, "dim", -1)] == 2 else Replicate() for x in p.placements)


def check_shape(call: str, argument: str, slot: Slot, x: Any, p: Tensor) -> None:
    """Memory that comes from elsewhere is walked by address, so its shape must be right."""
    wanted = slot.shape(tuple(p.shape))
    if not isinstance(x, Tensor) or tuple(x.shape) != wanted:
        raise bad_value(call, argument, f"must be a tensor of shape {wanted}", x)
    if placements(x) != _parts_of(slot, p):
        worded = f"must be spread over the ranks as its parameter is, {_parts_of(slot, p)}"
        hint = "Load it with torch.distributed.checkpoint.state_dict.set_optimizer_state_dict."
        raise bad_value(call, argument, worded, placements(x), hint)
