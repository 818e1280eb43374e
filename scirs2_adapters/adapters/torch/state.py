"""Memory in torch's form: `optimizer.state[p]` holds `step` and the slots under torch's names.

Numbers of the whole model stand in the groups, equal in all of them, because state may have no keys but parameters.
torch casts memory to the parameter's dtype when a checkpoint is loaded; here each tensor comes back as it was saved.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from scirs2_adapters.core.errors import ArgumentValueError, bad_value
from scirs2_adapters.core.execute.kernel import reason_against as kernel_reason
from scirs2_adapters.core.execute.kernel import uses_rows
from scirs2_adapters.core.options import slot_dtype
from scirs2_adapters.core.program import record
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


def reason_against(p: Tensor) -> str | None:
    """Why the host kernel cannot step this parameter, or None."""
    if type(p).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"the parameter is a {type(p).__name__}, which computes in its own way"
    if p.device.type != "cpu" or p.layout is not torch.strided:
        return f"the parameter is on {p.device} in layout {p.layout}"
    if p.is_neg():
        return "the parameter is a negated view"
    return kernel_reason({"p": dtype_name(p.dtype)})


class Member:
    """A parameter with a gradient: its rule, program and memory."""

    def __init__(self, optimizer: Any, p: Tensor, group: int, leaf: Leaf, setting: Any) -> None:
        self.p, self.group, self.leaf = p, group, leaf
        self.rule = setting.rule.route(leaf)
        self.program = record(self.rule, leaf)
        self.slots = [s.name for s in arrays_of(self.rule, leaf)]
        self.by_axes = uses_rows(self.program) or any(n.op == "matrix" for n in self.program.nodes)
        self.varies = leaf if setting.rule.by_leaf else None
        held = optimizer.state.get(p) or {}
        self.first = not any(held.get(name) is not None for name in self.slots)
        self.held: Held | None = None

    def refuse(self, name: str, g: Tensor, fused: bool) -> None:
        """What no path can step."""
        if g.layout is not torch.strided:
            raise RuntimeError(
                f"`{name}` does not support sparse gradients. Received: one of layout {g.layout}. "
                "Use `sparse=False` where the gradient is made, or torch.optim.SparseAdam for this parameter."
            )
        if fused and not self.p.is_floating_point():
            requires = "`fused=True` requires all the params to be floating point Tensors of supported devices"
            raise RuntimeError(f"`{name}`: {requires}. Received: {self.p.dtype}. Use `fused=None`.")
        if not (self.p.is_floating_point() or self.p.is_complex()):
            raise RuntimeError(f"`{name}` steps floating point and complex parameters. Received: {self.p.dtype}.")
        if self.p.is_complex() and self.by_axes:
            raise RuntimeError(f"`{name}` does not support complex parameters. Received: {self.p.dtype}.")
        if self.p.numel() and any(n > 1 and s == 0 for n, s in zip(self.p.shape, self.p.stride(), strict=True)):
            raise RuntimeError(
                f"`{name}` cannot step a parameter of which several elements are one place in memory. Use `p.clone()`."
            )

    def arrays(self) -> list[Tensor]:
        """The parameter, its gradient and its slots, in the order of a kernel's table."""
        return [self.p, self.p.grad, *(self.held[name] for name in self.slots)]  # type: ignore[index, list-item]

    def reason(self, setting: Any) -> str | None:
        """Why the host kernel cannot step it, or None."""
        if torch.is_grad_enabled():
            return "differentiable=True needs torch's own operations"
        if setting.traced:
            return "a hyperparameter is a tensor on another device"
        tensors = self.arrays()
        if reason := reason_against(self.p) or next(filter(None, map(reason_against, tensors[2:])), None):
            return reason
        return kernel_reason(dict(zip(("p", "g", *self.slots), map(name_of, tensors), strict=True)))

    def walks(self) -> bool:
        """Whether the kernel can go through its memory from one end to the other."""
        return all(lent is own for lent, own in zip(self.lend(), self.arrays(), strict=True))

    def lend(self) -> list[Tensor]:
        """Its arrays as memory in one and the same order: each as it is where it can be, else a copy."""
        p, *others = self.arrays()
        form = torch.contiguous_format if self.by_axes else torch.preserve_format
        if not (p.is_contiguous() or (not self.by_axes and _dense(p))):
            p = torch.empty_like(p, memory_format=form).copy_(p)
        return [p, *(x if _parallel(x, p) else _copy(x, p) for x in others)]

    def load(self) -> dict[str, Tensor]:
        """Its arrays by name, as numbers of the arithmetic's dtype, complex ones with an axis for their parts."""
        compute = torch.float64 if self.leaf.dtype == "float64" else torch.float32
        found = {}
        for name, x in zip(("p", "g", *self.slots), self.arrays(), strict=True):
            x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
            found[name] = x.to(compute, copy=torch.is_grad_enabled())
        return found

    def store(self, values: Mapping[str, Tensor]) -> None:
        """Write new values into the parameter and its slots, rounded to their dtypes."""
        for name, x in zip(("p", *self.slots), (self.p, *self.arrays()[2:]), strict=True):
            (torch.view_as_real(x) if x.is_complex() else x).copy_(values[name])


def forms(tensors: Sequence[Tensor]) -> tuple[list[Any], ...]:
    """What an address does not tell."""
    return (
        list(map(operator.attrgetter("dtype"), tensors)),
        list(map(Tensor.stride, tensors)),
        list(map(Tensor.numel, tensors)),
    )


def name_of(x: Tensor) -> str:
    return dtype_name(x.dtype)


def _dense(x: Tensor) -> bool:
    """Whether its elements fill one stretch of memory, in any order of its axes."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _parallel(x: Tensor, p: Tensor) -> bool:
    if x.is_neg():
        return False
    if x.shape != p.shape:  # a row or column of numbers
        return x.is_contiguous()
    return x.stride() == p.stride() or (x.is_contiguous() and p.is_contiguous())


def _copy(x: Tensor, p: Tensor) -> Tensor:
    return torch.empty_like(p, dtype=x.dtype).copy_(x) if x.shape == p.shape else x.contiguous()


class Counter:
    """The steps of many parameters in one tensor, of which each parameter's `step` is an element.

    One addition counts for all of them, and the tensor's version tells whether anyone else has written to one.
    """

    def __init__(self, optimizer: Any) -> None:
        self.held = [h for h in optimizer.state.values() if isinstance(h, dict) and countable(h.get("step"))]
        self.flat = torch.tensor([float(h["step"]) for h in self.held], dtype=count_dtype())
        for i, h in enumerate(self.held):
            h["step"] = self.flat[i]
        self.steps = [h["step"] for h in self.held]
        self.places = {id(h): i for i, h in enumerate(self.held)}

    def has(self, held: Held) -> bool:
        """Whether this memory's step is one of the elements."""
        place = self.places.get(id(held))
        return place is not None and held["step"] is self.steps[place]


def countable(step: Any) -> bool:
    """Whether a step can be an element of a `Counter`: an ordinary number on the CPU, as torch makes it."""
    return type(step) is Tensor and step.device.type == "cpu" and step.dtype == count_dtype() and step.ndim == 0


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
