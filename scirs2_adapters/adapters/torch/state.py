"""Memory in torch's form: `optimizer.state[p]` holds `step` and the slots under torch's names.

Numbers of the whole model stand in the groups, equal in all of them, because state may have no keys but parameters.
torch casts memory to the parameter's dtype when a checkpoint is loaded; here each tensor comes back as it was saved.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from scirs2_adapters.core.errors import ArgumentValueError, bad_value
from scirs2_adapters.core.options import slot_dtype
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.slots import Kind, Leaf, Slot

from .dialect import NONE_IS_DEFAULT, OURS, TORCH, WHOLE_STEPS, all_words, build, resembles, signed, words

Tensor = torch.Tensor
Held = dict[str, Any]


def dtype_name(dtype: torch.dtype) -> str:
    """The core's name of a dtype."""
    return str(dtype).removeprefix("torch.")


def spread_class() -> type | None:
    """torch's DTensor, if anyone has loaded it: a tensor that lies on several devices, a part on each."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


def is_spread(x: Any) -> bool:
    """Whether this process holds only its part of the tensor."""
    return type(x) is spread_class()


def local(x: Any) -> Any:
    """The part of a tensor that this process holds."""
    return x._local_tensor if is_spread(x) else x


def parts(x: Any) -> Any:
    """How a tensor is spread, or None."""
    return (x.device_mesh, tuple(x.placements)) if is_spread(x) else None


def kinds(members: Iterable[Any]) -> list[Any]:
    """What a plan takes for granted of parameters whose addresses it does not know."""
    return [(m.p.dtype, m.p.shape, m.p.device) for m in members]


def leaf_of(p: Tensor, name: str = "") -> Leaf:
    """A parameter as a rule sees it; a complex one is a real one with an axis more."""
    shape, dtype = tuple(p.shape), dtype_name(p.dtype)
    return Leaf((*shape, 2), dtype_name(p.real.dtype), name, True) if p.is_complex() else Leaf(shape, dtype, name)


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
            held[slot.name] = _made(rule, slot, p, leaf, group["state_dtype"])
        elif getattr(held[slot.name], "is_sparse", False):  # torch's SGD remembers sparse gradients so
            held[slot.name] = held[slot.name].to_dense()
        _check_shape(optimizer, slot, held[slot.name], p)
    return held


def count_dtype() -> torch.dtype:
    """The dtype of `step`, as torch has it."""
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32


def _made(rule: Rule, slot: Slot, p: Tensor, leaf: Leaf, state_dtype: Any) -> Tensor:
    full = slot.kind is Kind.FULL
    dtype = p.dtype if full and p.is_complex() else getattr(torch, slot_dtype(slot, leaf.dtype, state_dtype))
    made = torch.zeros_like(p, dtype=dtype, memory_format=torch.preserve_format) if full else _small(slot, p, dtype)
    if slot.initial == "parameter":
        return made.copy_(p.detach())
    if slot.initial is not None:
        (torch.view_as_real(made) if made.is_complex() else made).fill_(slot.first(rule))
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
    if not is_spread(p) or slot.kind is Kind.TENSOR:
        return None
    from torch.distributed.tensor import Replicate

    axes = (*slot.shape((2,) * p.ndim), 2)  # the last for what has no axis: on every rank
    return p.device_mesh, tuple(x if axes[getattr(x, "dim", -1)] == 2 else Replicate() for x in p.placements)


def _check_shape(optimizer: Any, slot: Slot, x: Any, p: Tensor) -> None:
    """Memory that the user has put there is walked by address, so its shape must be right."""
    wanted = slot.shape(tuple(p.shape))
    if not isinstance(x, Tensor) or tuple(x.shape) != wanted:
        raise bad_value(type(optimizer).__name__, f"state[p][{slot.name!r}]", f"must be a tensor of shape {wanted}", x)
    if parts(x) != _parts_of(slot, p):
        worded = f"must be spread over the ranks as its parameter is, {_parts_of(slot, p)}"
        hint = "Load it with torch.distributed.checkpoint.state_dict.set_optimizer_state_dict."
        raise bad_value(type(optimizer).__name__, f"state[p][{slot.name!r}]", worded, parts(x), hint)


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


def export(optimizer: Any, saved: dict[str, Any]) -> dict[str, Any]:
    """The dict in torch's form, where that is another than the memory's: each `step` a tensor of its own, for formats
    that refuse tensors which share memory, or a whole number where torch has one.
    """
    whole = type(optimizer).__name__ in WHOLE_STEPS
    counted = {
        k: {**held, "step": int(held["step"]) if whole else held["step"].clone()}
        for k, held in saved["state"].items()
        if isinstance(held, dict) and isinstance(held.get("step"), Tensor)
    }
    return saved | {"state": saved["state"] | counted}


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
    """Refuse the dict of another optimizer, and what is no such dict, before anything is changed."""
    name = type(optimizer).__name__
    if not isinstance(saved, Mapping) or not {"state", "param_groups"} <= saved.keys():
        found = sorted(map(str, saved)) if isinstance(saved, Mapping) else saved
        wanted = 'must be a dict with the keys "state" and "param_groups", as `state_dict()` gives it'
        raise bad_value(f"{name}.load_state_dict", "state_dict", wanted, found)
    for old in saved["param_groups"]:
        own, constants = words(rule), signed(rule)
        whole = all(k in old for k in OURS)  # one of ours, which lacks nothing
        missing = [k for k, needed in own.items() if (needed or whole) and k not in old]
        foreign = [k for k in old if k not in own and k in all_words()]
        wrong = [k for k, v in constants.items() if old.get(k, v) != v]
        if missing or foreign or wrong:
            raise _foreign(name, f"its groups differ in {', '.join(map(repr, missing or foreign or wrong))}", saved)
    rules = {id(old): _saved_rule(rule, old) for old in saved["param_groups"]}
    for p, label, old, held in _pairs(optimizer, saved):
        leaf = leaf_of(p, label)
        routed = rules[id(old)].route(leaf)
        known = {s.name for s in routed.all_slots()} | {"step"}
        unknown = [k for k, v in held.items() if k not in known and v is not None]
        absent = [s.name for s in arrays_of(routed, leaf) if s.when is None and s.name not in held]
        if unknown or absent:
            raise _foreign(name, f"its memory differs in {', '.join(map(repr, unknown or absent))}", saved)
        for slot in arrays_of(routed, leaf):
            if held.get(slot.name) is not None:
                _check_shape(optimizer, slot, held[slot.name], p)


def _saved_rule(rule: Rule, old: Mapping[str, Any]) -> Rule:
    """The rule of a saved group, whose options say what memory its parameters have."""
    given = {host: old[host] for _, host, _ in TORCH.places(rule.fields) if host in old}
    given = {k: v for k, v in given.items() if v is not None or k not in NONE_IS_DEFAULT}
    return build(type(rule), given | ({"base": old["base"]} if "base" in old else {}), old.get("match"))


def _foreign(name: str, why: str, saved: Mapping[str, Any]) -> ArgumentValueError:
    slots = {k for held in saved["state"].values() if isinstance(held, dict) for k in held} - {"step"}
    group = saved["param_groups"][0]
    likely = resembles(group, slots)
    looks = f"It looks like one of {' or '.join(likely)}." if likely else ""
    looks = f"It was saved by {group['algorithm']}." if "algorithm" in group else looks
    wanted = f"must be a state dict of {name}; {why}"
    return bad_value(f"{name}.load_state_dict", "state_dict", wanted, sorted(slots), looks)
