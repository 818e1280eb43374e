"""A state as it is outside of every framework: arrays by parameter and slot, counts, and what the optimizer was."""

from __future__ import annotations

import contextlib
import json
import math
import numbers as abc_numbers
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..argument_names import Values
from ..cpu import storage
from ..errors import bad_value
from ..fields import Value, is_traced
from ..formats import BLOCK, BLOCK_DTYPES, blocks
from ..matrix import INPUTS_FIRST, OUTPUTS_FIRST
from ..rounding import ROUNDING_ERROR, ROUNDING_SEED
from ..rule import Rule
from ..slots import Extent
from .file import Array, Progress, opened, refused, write

#: Of the files that are written.
FORMAT_VERSION = 1
#: What an optimizer may have or not without being another: it begins at 0.
OPTIONAL = (ROUNDING_ERROR, ROUNDING_SEED)
#: What facts in a file must be.
_KINDS: dict[str, type | tuple[type, ...]] = {
    "rule": str, "match": (str, type(None)), "config": dict, "numbers": dict, "source": dict, "meanings": dict,
}  # fmt: skip
LAYOUTS = ("", OUTPUTS_FIRST, INPUTS_FIRST)
_STORED = {
    "int8": f"signed codes in blocks of {BLOCK}: x = scale * sign(q) * (q / 127)^2",
    "uint8": f"unsigned codes in blocks of {BLOCK}: x = scale * (q / 255)^4",
}
_MEANINGS = {
    ROUNDING_ERROR: "what rounding took from the parameter, in parts of its last place",
    ROUNDING_SEED: "the seed of the parameter's stochastic rounding",
}


@dataclass(frozen=True)
class ParameterState:
    """The memory of one parameter: its slots with their companions, and the number of its steps, None where it is not
    counted. The shape and dtype are those of the parameter, where they are known; a complex parameter is described as a
    real one with one axis more. `initial_lr` is the learning rate from which a schedule of torch's began, None where
    there is none; other frameworks keep no such number.
    """

    slots: Mapping[str, Array] = field(default_factory=dict)
    steps: int | None = 0
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    complex: bool = False
    initial_lr: float | None = None


class Group(NamedTuple):
    """A parameter group: its hyperparameters, and the names of its parameters."""

    config: Values
    parameters: Sequence[str]


@dataclass(frozen=True)
class State:
    """A state out of any framework.

    `config` are the hyperparameters under the core's names, a wrapper's `base` among them. Where an optimizer has
    several `groups`, they are those of the first. `numbers` are those of the whole model. `layout` says how kernels
    lie, "outputs_first" or "inputs_first", and is empty where it is not known.
    """

    rule: str
    match: str | None
    config: Values
    parameters: Mapping[str, ParameterState]
    numbers: Mapping[str, float] = field(default_factory=dict)
    step_count: int = 0
    skipped_steps: int = 0
    layout: str = ""
    source: Mapping[str, str] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[Group] = ()

    @property
    def configs(self) -> dict[str, Values]:
        """The hyperparameters of each parameter."""
        return dict.fromkeys(self.parameters, self.config) | {n: g.config for g in self.groups for n in g.parameters}

    @property
    def full_name(self) -> str:
        """The optimizer's name, of a wrapper with its base: `lookahead(adamw)`."""
        return f"{self.rule}({self.config['base']})" if self.config.get("base") else self.rule

    @property
    def facts(self) -> dict[str, str]:
        """What it is of, in words."""
        match = f", match={self.match!r}" if self.match else ""
        config = {k: x for k, x in self.config.items() if k not in ("match", "base")}
        rates = sorted({p.initial_lr for p in self.parameters.values() if p.initial_lr is not None})
        return {
            "optimizer": f"{self.full_name or 'not said'}{match}",
            "hyperparameters": ", ".join(f"{k}={x!r}" for k, x in config.items()) or "not said",
            **{f"group {i}": _worded(group, config) for i, group in enumerate(self.groups, 1)},
            **({"initial_lr": ", ".join(map(repr, rates))} if rates else {}),
            "steps": f"{self.step_count}" + (f", {self.skipped_steps} skipped" if self.skipped_steps else ""),
            "numbers": ", ".join(f"{k}={x!r}" for k, x in self.numbers.items()) or "-",
            "kernels": self.layout.replace("_", " ") or "not said",
            "written by": ", ".join(f"{k} {x}" for k, x in self.source.items()) or "-",
            "bytes": f"{sum(x.nbytes for x in self.arrays.values()):,}",
        }

    def __str__(self) -> str:
        lines = [f"{name + ':':<16} {said}" for name, said in self.facts.items()]
        for name, p in self.parameters.items():
            slots = [f"{slot} {x.dtype} {list(x.shape)}" for slot, x in p.slots.items()]
            lines.append(f"  {name}: {', '.join(slots) or 'nothing'}")
        return "\n".join(lines)

    @property
    def arrays(self) -> dict[str, Array]:
        """All arrays by name: `layers.0.weight/exp_avg`."""
        return {f"{name}/{slot}": x for name, p in self.parameters.items() for slot, x in p.slots.items()}


def _worded(group: Group, first: Values) -> str:
    """What a group has otherwise than the first one, and its parameters."""
    others = ", ".join(f"{k}={x!r}" for k, x in group.config.items() if k in first and x != first[k])
    return f"{others}{': ' * bool(others)}{len(group.parameters)} parameters, from {group.parameters[0]}"


def numbers_in(p: ParameterState, slot: str) -> np.ndarray:
    """The numbers of a slot, in float64."""
    x = p.slots[slot]
    coded = x.dtype in BLOCK_DTYPES and slot not in OPTIONAL
    if x.dtype not in storage.STORAGES or (x.dtype in BLOCK_DTYPES and not coded):
        return x.read().astype(np.float64)
    scales = p.slots[f"{slot}_scale"].read() if coded else None
    return storage.load(x.read(), x.dtype, scales).astype(np.float64)


def described(rule: Rule, parameters: Mapping[str, ParameterState], **others: object) -> State:
    """The state of an optimizer of this rule."""
    extents = {s.name: s.extent for s in rule.all_slots()} | {s.name: s.extent for s in rule.other().all_slots()}
    known = {name: _with_shape(p, extents) for name, p in parameters.items()}
    state = State(rule.name, rule.match, _config(rule), known, **others)  # type: ignore[arg-type]
    stored = {slot: x.dtype for p in parameters.values() for slot, x in p.slots.items()}
    return replace(state, meanings={slot: _meaning(slot, dtype, extents) for slot, dtype in stored.items()})


def _with_shape(p: ParameterState, extents: Mapping[str, Extent]) -> ParameterState:
    """The parameter with its shape where its framework has not said it: that of a slot that is like it."""
    full = [x.shape for slot, x in p.slots.items() if extents.get(slot) is Extent.FULL]
    return p if p.complex or p.shape is not None or not full else replace(p, shape=full[0])


_EXTENTS = {
    Extent.TENSOR: "one number",
    Extent.FULL: "like the parameter",
    Extent.SIDE: "numbers along sides",
    Extent.LOW: "like the projection of the parameter, or the parameter where there is none",
}


def _meaning(slot: str, dtype: str, extents: Mapping[str, Extent]) -> str:
    if slot in _MEANINGS:
        return _MEANINGS[slot]
    if slot not in extents and slot.endswith("_scale"):
        return f"the scales of the blocks of {slot.removesuffix('_scale')}"
    extent = _EXTENTS.get(extents.get(slot, Extent.FULL), "one number for a line")
    return f"{extent}, {_STORED[dtype]}" if dtype in BLOCK_DTYPES else extent


def groups_of(rules: Sequence[Rule], names: Sequence[Sequence[str]]) -> tuple[Group, ...]:
    """The groups with these rules and parameters; none where one group has all, whose rule says the same."""
    held = [Group(_config(rule), list(members)) for rule, members in zip(rules, names, strict=True) if members]
    return tuple(held) if len(held) > 1 else ()


def _config(rule: Rule) -> dict[str, Value]:
    return {key: _plain(value) for key, value in rule.get_config().items()}


def _plain(value: Value) -> Value:
    """A hyperparameter as JSON has it: arrays of one number as the number, classes and functions by name."""
    if value is None or isinstance(value, (bool, str, int, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(x) for x in value]
    if isinstance(value, abc_numbers.Number) or is_traced(value):
        return float(value)
    return str(getattr(value, "name", getattr(value, "__name__", type(value).__name__)))


def save(state: State, path: Path, told: Progress = lambda _: None, *, durable: bool = True) -> None:
    """Write the file; a `durable` one is on the disk when this returns."""
    facts = {
        "format_version": FORMAT_VERSION,
        **{k: v for k, v in vars(state).items() if k not in ("parameters", "groups")},
        "groups": [group._asdict() for group in state.groups],
        "parameters": {name: _facts(p) for name, p in state.parameters.items()},
    }
    write(path, json.dumps(facts), state.arrays, told, durable=durable)


def _facts(p: ParameterState) -> dict[str, object]:
    rate = {} if p.initial_lr is None else {"initial_lr": p.initial_lr}
    return {"shape": p.shape, "dtype": p.dtype, "steps": p.steps, "complex": p.complex, **rate}


@contextlib.contextmanager
def loaded(call: str, path: Path, told: Progress = lambda _: None) -> Iterator[State]:
    """The state in a file; arrays can be read inside the block."""
    with opened(call, path, told) as file:
        try:
            state = _state(
                json.loads(file.text), file.arrays, lambda why: refused(call, str(path), why, "Update scirs2.")
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise refused(call, str(path), f"its description is not complete ({error!r})") from None
        if lacking := [name for name, p in state.parameters.items() for slot in p.slots if not _has_scales(p, slot)]:
            raise refused(call, str(path), f"codes of {lacking[0]} have no scales")
        yield state


def _has_scales(p: ParameterState, slot: str) -> bool:
    """Whether there are scales for the codes in a slot, if it has any."""
    x, scales = p.slots[slot], p.slots.get(f"{slot}_scale")
    if x.dtype not in BLOCK_DTYPES or slot in OPTIONAL:
        return True
    return scales is not None and (scales.dtype, scales.shape) == ("float32", (blocks(math.prod(x.shape)),))


def _state(facts: dict[str, object], arrays: Mapping[str, Array], newer: Callable[[str], Exception]) -> State:
    if facts.pop("format_version") != FORMAT_VERSION:
        raise newer("this one was written by a newer version, in another format")
    slots: dict[str, dict[str, Array]] = {}
    for name, x in arrays.items():
        parameter, _, slot = name.rpartition("/")
        slots.setdefault(parameter, {})[slot] = x
    known: dict[str, dict[str, object]] = facts.pop("parameters")  # type: ignore[assignment]
    if not slots.keys() <= known.keys():
        raise KeyError(min(slots.keys() - known.keys()))
    parameters = {name: _parameter(slots.get(name, {}), **facts_of) for name, facts_of in known.items()}  # type: ignore[arg-type]
    groups = tuple(Group(**group) for group in facts.pop("groups", ()))  # type: ignore[attr-defined]
    if groups and sorted(name for group in groups for name in group.parameters) != sorted(parameters):
        raise KeyError("groups")
    state = State(parameters=parameters, groups=groups, **facts)  # type: ignore[arg-type]
    if not all(isinstance(getattr(state, key), kind) for key, kind in _KINDS.items()) or state.layout not in LAYOUTS:
        raise TypeError("its facts are none")
    counts = [state.step_count, state.skipped_steps, *(p.steps for p in parameters.values() if p.steps is not None)]
    numbers = [*state.numbers.values(), *(p.initial_lr for p in parameters.values() if p.initial_lr is not None)]
    if not all(type(n) is int and n >= 0 for n in counts) or not all(type(x) is float for x in numbers):
        raise TypeError("its counts and numbers are none")
    return state


def _parameter(slots: Mapping[str, Array], shape: list[int] | None, **facts: object) -> ParameterState:
    return ParameterState(slots, shape=None if shape is None else tuple(shape), **facts)  # type: ignore[arg-type]


def renaming(call: str, argument: str, names: Iterable[str], new: Mapping[str, str]) -> dict[str, str]:
    """The names of parameters by their new ones, which must differ."""
    sources: dict[str, str] = {}
    for name in names:
        if (other := sources.setdefault(new.get(name, name), name)) != name:
            both = f"{other} and {name} would both be called so."
            raise bad_value(call, argument, "must leave each parameter a name of its own", new.get(name, name), both)
    return sources
