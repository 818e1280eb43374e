"""Memory in torch's form: `optimizer.state[p]` holds `step` and the slots under torch's names.

Numbers of the whole model stand in the groups, equal in all of them, because state may have no keys but parameters.
torch casts memory to the parameter's dtype when a checkpoint is loaded; here each tensor comes back as it was saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from scirs2_adapters.core.errors import ArgumentValueError, bad_value
from scirs2_adapters.core.options import slot_dtype
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Kind, Leaf, Slot

from .dialect import OURS, all_words, resembles, signed, words

Tensor = torch.Tensor
Held = dict[str, Any]


def dtype_name(dtype: torch.dtype) -> str:
    """The core's name of a dtype."""
    return str(dtype).removeprefix("torch.")


def leaf_of(p: Tensor, name: str = "") -> Leaf:
    """A parameter as a rule sees it; a complex one is a real one with an axis more."""
    shape, dtype = tuple(p.shape), dtype_name(p.dtype)
    return Leaf((*shape, 2), dtype_name(p.real.dtype), name) if p.is_complex() else Leaf(shape, dtype, name)


def arrays_of(rule: Rule, leaf: Leaf) -> tuple[Slot, ...]:
    """The slots that are tensors."""
    return tuple(s for s in rule.slots(leaf) if s.kind is not Kind.MODEL)


def remember(optimizer: Any, p: Tensor, rule: Rule, leaf: Leaf, group: Mapping[str, Any]) -> Held | None:
    """A parameter's memory, made where it is missing; None for a rule that remembers nothing of it."""
    slots = arrays_of(rule, leaf)
    if not slots and rule.counts != "step":
        return None
    held: Held = optimizer.state[p]
    if rule.counts == "step" and held.get("step") is None:
        on_device = group["capturable"] or (group["fused"] and p.device.type != "cpu")
        held["step"] = torch.zeros((), dtype=count_dtype(), device=p.device if on_device else "cpu")
    for slot in slots:
        if held.get(slot.name) is None:
            held[slot.name] = _made(slot, p, leaf, group["state_dtype"])
        _check_shape(optimizer, slot, held[slot.name], p)
    return held


def count_dtype() -> torch.dtype:
    """The dtype of `step`, as torch has it."""
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32


def _made(slot: Slot, p: Tensor, leaf: Leaf, state_dtype: Any) -> Tensor:
    dtype = p.dtype if p.is_complex() else getattr(torch, slot_dtype(slot, leaf.dtype, state_dtype))
    if slot.kind is not Kind.FULL:
        return p.detach().new_zeros(slot.shape(leaf.shape), dtype=dtype)
    made = torch.zeros_like(p, dtype=dtype, memory_format=torch.preserve_format)
    return made.copy_(p.detach()) if slot.initial == "parameter" else made


def _check_shape(optimizer: Any, slot: Slot, x: Any, p: Tensor) -> None:
    """Memory that the user has put there is walked by address, so its shape must be right."""
    wanted = slot.shape(tuple(p.shape))
    if not isinstance(x, Tensor) or tuple(x.shape) != wanted:
        raise bad_value(type(optimizer).__name__, f"state[p][{slot.name!r}]", f"must be a tensor of shape {wanted}", x)


def fill(optimizer: Any) -> None:
    """Put into groups and memory what a dict of torch's, or of an older version, does not have."""
    for group in optimizer.param_groups:
        for key, value in optimizer.defaults.items():
            group.setdefault(key, value)
        for p in group["params"]:
            held = optimizer.state.get(p)
            if isinstance(held, dict) and "step" in held and not isinstance(held["step"], Tensor):
                device = p.device if group["capturable"] or group["fused"] else "cpu"
                held["step"] = torch.tensor(float(held["step"]), dtype=count_dtype(), device=device)


def _pairs(optimizer: Any, saved: Mapping[str, Any]) -> Iterator[tuple[Tensor, str, Mapping[str, Any], Held]]:
    """(parameter, its name, saved group, saved memory) for each parameter that has any."""
    for group, old in zip(optimizer.param_groups, saved["param_groups"], strict=False):
        known = group.get("param_names") or [""] * len(group["params"])
        for p, name, key in zip(group["params"], known, old["params"], strict=False):
            if held := saved["state"].get(key):
                yield p, name, old, held


def restore(optimizer: Any, saved: Mapping[str, Any], before: list[dict[str, Any]]) -> None:
    """After torch has loaded: the dtypes it has changed, and the options that belong to this process."""
    for p, _, _, held in _pairs(optimizer, saved):
        for name, value in held.items():
            if name != "step" and isinstance(value, Tensor) and value.dtype != optimizer.state[p][name].dtype:
                optimizer.state[p][name] = value.to(p.device)
    for group, old, mine in zip(optimizer.param_groups, saved["param_groups"], before, strict=True):
        group |= {k: v for k, v in mine.items() if k == "kernel" or k not in old}


def options(group: Mapping[str, Any]) -> dict[str, Any]:
    """What a group had before a load that a dict of torch's does not say."""
    return {k: group[k] for k in OURS}


def check(optimizer: Any, rule: Rule, saved: Mapping[str, Any]) -> None:
    """Refuse the dict of another optimizer before anything is changed."""
    name = type(optimizer).__name__
    for old in saved["param_groups"]:
        own, constants = words(rule), signed(rule)
        whole = all(k in old for k in OURS)  # one of ours, which lacks nothing
        missing = [k for k, needed in own.items() if (needed or whole) and k not in old]
        foreign = [k for k in old if k not in own and k in all_words()]
        wrong = [k for k, v in constants.items() if old.get(k, v) != v]
        if missing or foreign or wrong:
            raise _foreign(name, f"its groups differ in {', '.join(map(repr, missing or foreign or wrong))}", saved)
    for p, label, _, held in _pairs(optimizer, saved):
        routed, leaf = rule.route(leaf_of(p, label)), leaf_of(p, label)
        known = {s.name for s in routed.all_slots()} | {"step"}
        unknown = [k for k, v in held.items() if k not in known and v is not None]
        absent = [s.name for s in arrays_of(routed, leaf) if s.when is None and s.name not in held]
        if unknown or absent:
            raise _foreign(name, f"its memory differs in {', '.join(map(repr, unknown or absent))}", saved)
        for slot in arrays_of(routed, leaf):
            if held.get(slot.name) is not None:
                _check_shape(optimizer, slot, held[slot.name], p)


def _foreign(name: str, why: str, saved: Mapping[str, Any]) -> ArgumentValueError:
    slots = {k for held in saved["state"].values() if isinstance(held, dict) for k in held} - {"step"}
    group = saved["param_groups"][0]
    likely = resembles(group, slots)
    looks = f"It looks like one of {' or '.join(likely)}." if likely else ""
    looks = f"It was saved by {group['algorithm']}." if "algorithm" in group else looks
    wanted = f"must be a state dict of {name}; {why}"
    return bad_value(f"{name}.load_state_dict", "state_dict", wanted, sorted(slots), looks)
