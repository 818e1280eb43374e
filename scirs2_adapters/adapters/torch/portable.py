"""The state of a torch optimizer, out and in: one of ours, or one of torch's own whose formula we have.

It goes in as a state dict, so that everything that holds of `load_state_dict` holds here: hooks are called, memory lies
as its parameter does and on its device, and what does not fit is refused before anything is changed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch

from scirs2_adapters.core.cpu.storage import STORAGES
from scirs2_adapters.core.errors import bad_type, bad_value
from scirs2_adapters.core.matrix import OUTPUTS_FIRST
from scirs2_adapters.core.portable.file import DTYPES, Array
from scirs2_adapters.core.portable.fit import Asked, Report, fitted
from scirs2_adapters.core.portable.forms import forms
from scirs2_adapters.core.portable.state import Group as Grouped
from scirs2_adapters.core.portable.state import ParameterState, State, described, groups_of
from scirs2_adapters.core.registry import get, with_closure
from scirs2_adapters.core.registry import names as listed
from scirs2_adapters.core.rule import Rule
from scirs2_adapters.core.step.options import counts_steps

from .argument_names import build, places
from .optimizer.rules import RuleOptimizer
from .state.memory import count_dtype
from .state.origin import TRAIN_MODE
from .state.protocols import Group, GroupValues, ParamState
from .state.tensors import Tensor, bare, dtype_name, is_dtensor, known_names, leaf_of

#: Names for the parameters: a model, tensors by name, or a list in the optimizer's order.
Named: TypeAlias = torch.nn.Module | Mapping[str, Tensor] | Sequence[str] | None
#: Name, parameter and group of a parameter.
Member: TypeAlias = tuple[str, Tensor, GroupValues]
#: torch's optimizers that have no `step` in their memory.
UNCOUNTED = ("SGD", "Muon")


def read(optimizer: torch.optim.Optimizer, names: Named = None, call: str = "state.save") -> State:
    """The state of the optimizer; arrays are read from the device one by one, when they are asked for."""
    optimizer = inside(optimizer)
    rule, groups = rule_of(call, optimizer), optimizer.param_groups
    members = list(_members(call, optimizer, names))
    parameters = {
        name: replace(_parameter(call, name, p, optimizer.state.get(p) or {}), initial_lr=initial_lr(call, group))
        for name, p, group in members
    }
    numbers = {s.name: float(groups[0][s.name]) for s in rule.model_slots()}
    return described(
        rule, parameters, numbers=numbers, step_count=max((p.steps or 0 for p in parameters.values()), default=0),
        skipped_steps=int(groups[0].get("skipped_steps", 0)), layout=OUTPUTS_FIRST,
        source={"framework": "torch", "torch": str(torch.__version__), "class": type(optimizer).__qualname__},
        groups=_groups(call, optimizer, members),
    )  # fmt: skip


def _groups(call: str, optimizer: torch.optim.Optimizer, members: Sequence[Member]) -> tuple[Grouped, ...]:
    """The optimizer's groups, if it has several."""
    rules = [rule_of(call, optimizer, index) for index in range(len(optimizer.param_groups))]
    return groups_of(rules, [[name for name, _, at in members if at is group] for group in optimizer.param_groups])


def load(optimizer: torch.optim.Optimizer, saved: State, asked: Asked, names: Named = None) -> Report:
    """Put a state into the optimizer, all of it or nothing."""
    optimizer = inside(optimizer)
    rule = rule_of(asked.call, optimizer)
    members = list(_members(asked.call, optimizer, names))
    wanted = {name: _wanted(optimizer, rule, name, p, group) for name, p, group in members}
    numbers = {s.name: float(optimizer.param_groups[0][s.name]) for s in rule.model_slots()}
    groups = _groups(asked.call, optimizer, members)
    here = described(rule, wanted, numbers=numbers, layout=OUTPUTS_FIRST, groups=groups)
    state, report = fitted(asked, saved, here, rule)
    current = optimizer.state_dict()
    memory = dict(current["state"])
    for index, (name, p, group) in enumerate(members):
        entry = state.parameters.get(name)
        if entry is None and not state.parameters and state.step_count:  # nothing but the count was saved
            entry = ParameterState(steps=state.step_count)
        if entry is not None and (new := _memory(optimizer, rule, name, entry, p, group, memory.get(index) or {})):
            memory[index] = new
        elif entry is not None:
            memory.pop(index, None)
    told = {**state.numbers, "skipped_steps": state.skipped_steps}
    param_groups = [
        {
            **schedule_of(state, [members[i][0] for i in group["params"]]),
            **group,
            **{k: x for k, x in told.items() if k in group},
        }
        for group in current["param_groups"]
    ]
    optimizer.load_state_dict({**current, "state": memory, "param_groups": param_groups})
    return report


def initial_lr(call: str, group: Mapping[str, object]) -> float | None:
    """The learning rate from which the group's schedule began, if a scheduler of torch's has noted it."""
    rate = group.get("initial_lr")
    number = rate.item() if isinstance(rate, Tensor) and rate.numel() == 1 else rate
    if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float))):
        raise bad_type(call, "param_groups['initial_lr']", "must be a number", rate)
    return None if number is None else float(number)


def schedule_of(state: State, names: Sequence[str]) -> dict[str, float]:
    """What torch's schedulers want of a group of these parameters when they are made with a `last_epoch`."""
    rates = {state.parameters[name].initial_lr for name in names if name in state.parameters} - {None}
    return {"initial_lr": rates.pop()} if len(rates) == 1 else {}  # type: ignore[dict-item]  # None is none of them


def inside(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer that a wrapper such as accelerate's holds."""
    inner = vars(optimizer).get("optimizer")
    return inside(inner) if isinstance(inner, torch.optim.Optimizer) else optimizer


def rule_of(call: str, optimizer: torch.optim.Optimizer, index: int = 0) -> Rule:
    """The rule of a group: the formula of the first one is that of all."""
    group = optimizer.param_groups[index]
    if isinstance(optimizer, RuleOptimizer):
        return optimizer._group_rule(index, group).whole
    name = type(optimizer).__name__
    name = "AdamW" if name == "Adam" and group.get("decoupled_weight_decay") else name
    known = type(optimizer).__module__.startswith("torch.optim") and name.lower() in listed()
    if not known or name.lower() in with_closure():
        worded = "must be an optimizer of scirs2 or torch that keeps memory for each parameter"
        raise bad_type(call, "optimizer", worded, type(optimizer))
    cls = get(name)
    values = {key: group[key] for key in places(cls, None) if group.get(key) is not None}
    return build(cls, values, "torch" if "torch" in cls.matches else None)


def _members(call: str, optimizer: torch.optim.Optimizer, named: Named) -> Iterator[Member]:
    """Name, parameter and group of each parameter, in the order of the optimizer."""
    groups = optimizer.param_groups
    if not all(group.get(TRAIN_MODE, True) for group in groups):
        worded = "must train: after `eval()` the model has other parameters"
        raise bad_value(call, "optimizer", worded, "train_mode=False", "Call `optimizer.train()` first.")
    params = [(p, group) for group in groups for p in group["params"]]
    names = names_of(call, optimizer, [p for p, _ in params], named)
    if parts := [name for name, (p, _) in zip(names, params, strict=True) if is_dtensor(p)]:
        way_out = "Use `torch.distributed.checkpoint`, or gather a full state dict."
        raise bad_value(call, "optimizer", "must hold whole tensors", f"a part of {parts[0]}", way_out)
    if not all(names) or len(set(names)) < len(names):
        worded = "must have a name of its own for each parameter, by which another framework finds it"
        way_out = "Give `names=model`, or make the optimizer of `model.named_parameters()`."
        raise bad_value(call, "names", worded, next((n for n in names if names.count(n) > 1), None), way_out)
    yield from ((bare(name), p, group) for name, (p, group) in zip(names, params, strict=True))


def names_of(call: str, optimizer: torch.optim.Optimizer, params: list[Tensor], named: Named) -> list[str]:
    if named is None:
        if isinstance(optimizer, RuleOptimizer):
            return [name for group in optimizer.param_groups for name in known_names(optimizer._names, group)]
        lists = [group.get("param_names") or [""] * len(group["params"]) for group in optimizer.param_groups]
        return [name for group_names in lists for name in group_names]
    if isinstance(named, (torch.nn.Module, Mapping)):
        pairs = named.named_parameters() if isinstance(named, torch.nn.Module) else named.items()
        by_id = {id(p): name for name, p in pairs}
        return [by_id.get(id(p), "") for p in params]
    if not isinstance(named, Sequence) or isinstance(named, str) or len(named) != len(params):
        worded = f"must be a model, tensors by name, or a list of {len(params)} names"
        raise bad_type(call, "names", worded, named)
    return list(named)


def _parameter(call: str, name: str, p: Tensor, memory: ParamState) -> ParameterState:
    leaf = leaf_of(p)
    return replace(parameter_of(call, name, memory), shape=leaf.shape, dtype=leaf.dtype, complex=leaf.complex)


def parameter_of(call: str, name: str, memory: Mapping[str, object]) -> ParameterState:
    """The memory of one parameter, in tensors or in arrays that have not been read yet."""
    slots = {}
    for slot, x in memory.items():
        if slot == "step":
            continue
        if isinstance(x, Array):
            slots[slot] = x
            continue
        if not isinstance(x, Tensor) or dtype_name(x.real.dtype if x.is_complex() else x.dtype) not in DTYPES:
            raise bad_type(call, f"optimizer.state[{name!r}][{slot!r}]", "must be a tensor of numbers", x)
        real = torch.view_as_real(x.detach()) if x.is_complex() else x.detach()
        slots[slot] = Array(dtype_name(real.dtype), tuple(real.shape), functools.partial(numbers_of, real))
    step = memory.get("step")
    return ParameterState(slots, _count(call, name, step) if step is not None else None if slots else 0)


def _count(call: str, name: str, step: object) -> int:
    """A count of steps, which torch keeps as a tensor of one float."""
    number = step.item() if isinstance(step, Tensor) and step.numel() == 1 else step
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
        raise bad_value(call, f"optimizer.state[{name!r}]['step']", "must be a whole number >= 0", step)
    return int(number)


def numbers_of(x: Tensor) -> np.ndarray:
    """A tensor as the core's carrier."""
    x = (x.to_dense() if x.layout is not torch.strided else x).cpu().contiguous()
    return x.view(torch.int16).numpy().view(np.uint16) if x.dtype == torch.bfloat16 else x.numpy()


def tensor_of(x: Array, copied: bool = True) -> Tensor:
    """The way back. The tensor is `copied`, or may share memory with what was read."""
    numbers = np.array(x.read()) if copied else np.require(x.read(), requirements=["C", "W"])
    if x.dtype == "bfloat16":
        return torch.from_numpy(numbers.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(numbers)


def _wanted(optimizer: torch.optim.Optimizer, rule: Rule, name: str, p: Tensor, group: GroupValues) -> ParameterState:
    leaf = leaf_of(p, name, optimizer.state.get(p) or ())
    if isinstance(optimizer, RuleOptimizer):
        index = next(i for i, other in enumerate(optimizer.param_groups) if other is group)
        rule = optimizer._group_rule(index, group).rule
    slots = forms(rule.route(leaf), leaf, group.get("state_dtype"), group.get("rounding", "nearest"))
    return ParameterState(slots, 0, leaf.shape, leaf.dtype, leaf.complex)


def _memory(
    optimizer: torch.optim.Optimizer,
    rule: Rule,
    name: str,
    entry: ParameterState,
    p: Tensor,
    group: GroupValues,
    before: Group,
) -> Group:
    """What a state dict has of one parameter: nothing before its first step."""
    if not entry.slots and not entry.steps:
        return {}
    counts = type(optimizer).__name__ not in UNCOUNTED
    if isinstance(optimizer, RuleOptimizer):
        leaf = leaf_of(p, name, entry.slots)
        counts = counts_steps(rule.route(leaf), leaf, group["rounding"], group["state_dtype"])
    steps = before.get("step", 0.0) if entry.steps is None else entry.steps
    step = {"step": torch.tensor(float(steps), dtype=count_dtype())} if counts else {}
    return {**before, **step, **{slot: _like(p, tensor_of(x)) for slot, x in entry.slots.items()}}


def _like(p: Tensor, x: Tensor) -> Tensor:
    """A slot that lies as its parameter does; codes lie as they are."""
    if p.is_complex() and x.shape == (*p.shape, 2):
        return torch.view_as_complex(x)
    if x.shape != p.shape or dtype_name(x.dtype) not in STORAGES or not x.is_floating_point():
        return x
    return torch.empty_like(p, dtype=x.dtype, device="cpu", memory_format=torch.preserve_format).copy_(x)
