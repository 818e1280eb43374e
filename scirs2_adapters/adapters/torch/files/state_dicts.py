"""State dicts in torch's files: those of `torch.save`, of the Trainer and of others, and of DeepSpeed's folders.

Numbers are read and written one tensor at a time, and codes become numbers one tensor at a time.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from scirs2_adapters.core.argument_names import Values
from scirs2_adapters.core.errors import ArgumentValueError, bad_value
from scirs2_adapters.core.matrix import OUTPUTS_FIRST
from scirs2_adapters.core.numpy_state import same_memory
from scirs2_adapters.core.portable.file import Array, Progress, refused
from scirs2_adapters.core.portable.state import OPTIONAL, ParameterState, State, described, groups_of
from scirs2_adapters.core.portable.state import Group as Grouped
from scirs2_adapters.core.registry import get
from scirs2_adapters.core.rule import Rule

from ..argument_names import FLAGS, TORCH, build, group_values, native_class, native_parameters, places
from ..portable import UNCOUNTED, initial_lr, numbers_of, parameter_of, schedule_of, tensor_of
from ..state.codes import Coded
from ..state.foreign import decoded
from ..state.memory import count_dtype
from ..state.origin import TRAIN_MODE, group_marks, likely_names
from ..state.protocols import Group, ParamState, Saved
from ..state.tensors import saved_names
from . import streaming, universal
from .loading import loaded
from .pages import Pages

log = logging.getLogger("scirs2")


def read(call: str, path: Path, rule: str | None = None) -> State:
    """The state in a file; `rule` names the optimizer where the file fits several. Parameters without names are called
    by their numbers.
    """
    saved = universal.read(call, path) if path.is_dir() else _loaded(call, path)
    identified = _rule(call, path, saved, rule)
    memories, pages = saved["state"], Pages()
    saved = decoded(call, identified, saved, _later)
    numbered = {
        key: name for group in saved["param_groups"] for key, name in zip(group["params"], _names(group), strict=True)
    }
    rates = {key: initial_lr(call, group) for group in saved["param_groups"] for key in group["params"]}
    parameters = {
        name: _parameter(call, name, saved["state"].get(key), memories.get(key), pages, rates[key])
        for key, name in numbered.items()
    }
    if rule:
        _check_rule(call, identified, parameters, saved)
    group = saved["param_groups"][0]
    rules = [_built(call, path, type(identified), each) for each in saved["param_groups"]]
    members = [[numbered[key] for key in each["params"]] for each in saved["param_groups"]]
    numbers = {s.name: float(group[s.name]) for s in identified.model_slots() if s.name in group}
    return described(
        rules[0], parameters, numbers=numbers, step_count=max((p.steps or 0 for p in parameters.values()), default=0),
        skipped_steps=int(group.get("skipped_steps", 0)), layout=OUTPUTS_FIRST,
        source={"framework": "torch", "file": path.name}, groups=groups_of(rules, members),
    )  # fmt: skip


def _parameter(
    call: str, name: str, memory: ParamState | None, mapped: object, pages: Pages, rate: float | None
) -> ParameterState:
    """The memory of one parameter, of tensors in `mapped`."""
    p = parameter_of(call, name, memory or {})
    slots = {slot: replace(x, read=functools.partial(pages.reading, x.read, mapped)) for slot, x in p.slots.items()}
    return replace(p, slots=slots, initial_lr=rate)


def _loaded(call: str, path: Path) -> Saved:
    saved = loaded(call, path)
    candidates = {"": cast("Saved", saved)} if _is_state(saved) else _inside(saved)
    if len(candidates) != 1:
        why = f"those of {', '.join(candidates)}" if candidates else "no optimizer's `state_dict()`"
        raise refused(
            call, str(path), f"this one holds {why}", "Save one with `torch.save(optimizer.state_dict(), path)`."
        )
    (state_dict,) = candidates.values()
    _check_members(call, path, state_dict)
    if not all(group.get(TRAIN_MODE, True) for group in state_dict["param_groups"]):
        raise refused(call, str(path), "this one was saved after `eval()`", "Call `optimizer.train()` and save again.")
    return state_dict


def _check_members(call: str, path: Path, saved: Saved) -> None:
    """Refuse memory that belongs to no parameter of a group, and parameters that cannot be told apart."""
    keys = [key for group in saved["param_groups"] for key in group["params"]]
    names = [name for group in saved["param_groups"] for name in _names(group)]
    for members, kind in ((keys, "parameter"), (names, "name")):
        if twice := [x for x, count in Counter(members).items() if count > 1]:
            raise refused(call, str(path), f"its groups have the {kind} {twice[0]!r} twice")
    if stray := [key for key in saved["state"] if key not in keys]:
        raise refused(call, str(path), f"its memory of {stray[0]!r} belongs to no parameter of its groups")


def _later(x: Coded) -> Array:
    """The numbers of codes, which are made when they are asked for."""
    return Array("float32", x.shape, lambda: numbers_of(x.numbers()))


def _is_state(x: object) -> bool:
    if not isinstance(x, Mapping) or not isinstance(x.get("state"), Mapping):
        return False
    groups = x.get("param_groups")
    return isinstance(groups, list) and bool(groups) and all(map(_is_group, groups))


def _is_group(x: object) -> bool:
    return isinstance(x, Mapping) and isinstance(x.get("params"), (list, tuple))


def _inside(saved: object) -> dict[str, Saved]:
    """The state dicts of optimizers in a checkpoint of a whole run: its entries, and those of lists in it."""
    entries = {str(k): x for k, x in saved.items()} if isinstance(saved, Mapping) else {}
    lists = {f"{k}[{i}]": y for k, x in entries.items() if isinstance(x, list) for i, y in enumerate(x)}
    return {k: cast("Saved", x) for k, x in {**entries, **lists}.items() if _is_state(x)}


def _check_rule(call: str, rule: Rule, parameters: Mapping[str, ParameterState], saved: Saved) -> None:
    """Refuse the name of an optimizer that keeps other memory than the file has."""
    known = {s.name for one in (rule, rule.other()) for s in one.all_slots()} | {*OPTIONAL}
    there = {slot.removesuffix("_scale") for p in parameters.values() for slot in p.slots}
    if other := sorted(there - known):
        group = saved["param_groups"][0]
        way_out = f"It fits {', '.join(likely_names(group, there))}."
        raise bad_value(call, "rule", f"must be an optimizer that keeps {', '.join(other)}", rule.name, way_out)


def _names(group: Group) -> Sequence[str]:
    return saved_names(group) or [str(key) for key in group["params"]]


def _rule(call: str, path: Path, saved: Saved, name: str | None) -> Rule:
    """The rule whose state a dict is, as its first group has it."""
    group = saved["param_groups"][0]
    slots = set().union(*(x for x in saved["state"].values() if isinstance(x, dict))) - {"step"}
    names = [name] if name else likely_names(group, slots)
    if len(names) != 1:
        worded = f"is not said by {path.name}, which fits {', '.join(names) or 'none'}"
        raise bad_value(call, "rule", worded, None, "Name the optimizer: `--rule adamw`.")
    return _built(call, path, get(names[0]), group)


def _built(call: str, path: Path, cls: type[Rule], group: Group) -> Rule:
    """The rule with the hyperparameters of a group."""
    values = {key: group[key] for key in places(cls, group.get("base")) if group.get(key) is not None}
    base = {"base": group["base"]} if group.get("base") else {}
    match = group.get("match", "torch" if "torch" in cls.matches else None)
    try:
        return build(cls, values | base, match)
    except (TypeError, ArgumentValueError) as error:
        raise refused(call, str(path), f"its groups are not of {cls.__name__}: {error}") from None


def write(state: State, path: Path, told: Progress = lambda _: None) -> None:
    """A `state_dict` for torch's class of the optimizer, or ours, in a file of torch's."""
    groups = state.groups or [Grouped(state.config, list(state.parameters))]
    _check_formula(state, path)
    numbers = {name: i for i, name in enumerate(name for group in groups for name in group.parameters)}
    cls, memory = get(state.rule), {}
    for name, i in numbers.items():
        p = state.parameters[name]
        counted = cls.__name__ not in UNCOUNTED or p.slots.keys() - {"momentum_buffer"}
        step = {"step": torch.tensor(float(p.steps), dtype=count_dtype())} if p.steps is not None and counted else {}
        if p.slots or p.steps:
            memory[i] = {**step, **{slot: _unread(x) for slot, x in p.slots.items()}}
    param_groups = [
        {**_values(cls, state, group), "params": [numbers[name] for name in group.parameters]} for group in groups
    ]
    streaming.save({"state": memory, "param_groups": param_groups}, path, told)


def _check_formula(state: State, path: Path) -> None:
    """Refuse memory that means something else to torch's own class of this name, which takes whatever fits, and say
    what that class would take for its own.
    """
    cls, call = get(state.rule), "scirs2 state convert"
    rule, theirs = _rule_in(cls, state, state.config), native_class(cls) is not torch.optim.Optimizer
    if theirs and rule.match not in (None, "torch"):
        if not same_memory(rule, rule.replace(match="torch")):
            worded = f"must not be a state dict: what {cls.__name__} remembers means something else in torch.optim"
            way_out = f"Name it .safetensors, and load that into scirs2's {cls.__name__}(match={rule.match!r})."
            raise bad_value(call, "OUT", worded, f"match={rule.match!r}", way_out)
        log.warning("%s: torch.optim's %s has another formula than match=%r", call, cls.__name__, rule.match)
    numbers = {name for name, field in cls.fields.items() if field.kind is not bool} - state.config.keys()
    known = {p.name for p in native_parameters(cls)} if theirs else {*TORCH.spelled(cls.fields).values()}
    if unsaid := known & {TORCH.spelled(cls.fields)[name] for name in numbers}:
        worded = "%s: %s has the defaults of %s, which IN does not say; set them after `load_state_dict`"
        log.warning(worded, call, path.name, ", ".join(sorted(unsaid)))


def _values(cls: type[Rule], state: State, group: Grouped) -> Group:
    """What a group of a state dict has besides numbers for its parameters."""
    rule = _rule_in(cls, state, group.config)
    values = {**FLAGS, **group_values(rule), **group_marks(rule), **state.numbers, "match": rule.match}
    return {**schedule_of(state, group.parameters), **values, "param_names": list(group.parameters)}


def _rule_in(cls: type[Rule], state: State, config: Values) -> Rule:
    """The rule with the hyperparameters that a file has."""
    values = {k: tuple(x) if isinstance(x, list) else x for k, x in config.items()}
    return cls(**{"match": state.match, **values})


def _unread(x: Array) -> streaming.Later:
    """A slot that is read when it is written."""
    return streaming.Later(getattr(torch, x.dtype), x.shape, lambda: tensor_of(x, copied=False))
