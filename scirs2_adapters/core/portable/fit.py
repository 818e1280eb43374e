"""A saved state in the form of the optimizer that takes it, and the report of what became of it.

A slot is matched by its name and that of its parameter. Numbers are copied bit for bit where both sides store them
alike, and are converted where they do not. Nothing here changes an optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ..errors import bad_value
from ..formats import BLOCK_DTYPES
from ..numpy_state import same_memory
from ..rounding import ROUNDING_ERROR
from ..rule import Rule
from .file import Array, held
from .layouts import OTHER, Shape, Turn, layout_of, turned, turned_back, turns
from .lines import Lines, lines_of, moved, restored
from .state import OPTIONAL, ParameterState, State, described

_MOST = 8


class Asked(NamedTuple):
    """What the caller of `load` has asked for."""

    call: str = "state.load"
    strict: bool = True
    rename: Mapping[str, str] = {}
    layout: str | None = None


@dataclass
class Report:
    """What `load` has done, by names such as "layers.0.weight/exp_avg".

    `taken` went over bit for bit, `converted` says what was done to the others; `missing` is here and not in the file,
    and stays as it was; `left_over` is in the file and not here; `misfits` are of another shape. `hyperparameters` that
    differ are (in the file, here): those of the optimizer stay.
    """

    taken: list[str] = field(default_factory=list)
    converted: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    misfits: dict[str, str] = field(default_factory=dict)
    hyperparameters: dict[str, tuple[object, object]] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """What a strict load refuses, in words."""
        faults = [f"here only: {_listed(self.missing)}"] * bool(self.missing)
        faults += [f"in the file only: {_listed(self.left_over)}"] * bool(self.left_over)
        return faults + [f"{name} {why}" for name, why in list(self.misfits.items())[:_MOST]]

    def __str__(self) -> str:
        lines = [f"{len(self.taken)} arrays taken as they are, {len(self.converted)} converted"]
        lines += [f"  {name}: {how}" for name, how in self.converted.items()]
        lines += self.faults()
        lines += [f"{k} was {then!r} and is {now!r} here" for k, (then, now) in self.hyperparameters.items()]
        return "\n".join(lines)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


def fitted(asked: Asked, saved: State, here: State, rule: Rule) -> tuple[State, Report]:
    """The part of `saved` that an optimizer of this rule takes, in the form of `here`. Of the arrays in `here` only
    shapes and dtypes are read.
    """
    _check_rule(asked.call, saved, rule)
    parameters, names = _renamed(asked, saved, here)
    report = Report(hyperparameters=_differing(saved, described(rule, {})))
    pairs = {name: (parameters[name], p) for name, p in here.parameters.items() if name in parameters}
    there = layout_of(asked.call, asked.layout) or saved.layout
    lies = here.layout or (OTHER[there] if asked.layout else "")
    lines = lines_of(rule)
    shapes = {name: (lines.shape_of(a), lines.shape_of(b)) for name, (a, b) in pairs.items() if lines.tell(a, b)}
    axes = turns(asked.call, shapes, names, there, lies)
    if there and lies and there != lies:
        untold = [name for name, pair in pairs.items() if all(map(lines.untold, pair))]
        report.misfits |= dict.fromkeys(untold, "has a number for each slice, and its shape is not known")
    matched = {name: _fitted(name, *pair, axes.get(name), lines, report) for name, pair in pairs.items()}
    if rule.time_dependence == "step" and any(p.steps is None for p in matched.values()):
        report.converted["steps"] = "not counted in the file, those here stay"
    report.missing += [name for name, p in here.parameters.items() if name not in pairs and (p.slots or parameters)]
    others = [name for name in parameters if name not in pairs]
    report.left_over += [name for name in others if parameters[name].slots or here.parameters]
    if asked.strict and (faults := report.faults()):
        worded = "must be of the parameters, slots and shapes of this optimizer; " + "; ".join(faults)
        received = f"{len(saved.parameters)} parameters in the file, {len(here.parameters)} here"
        way_out = "Use `rename={name in the file: name here}`, or `strict=False` to take what fits."
        raise bad_value(asked.call, "optimizer", worded, received, way_out)
    numbers = {name: saved.numbers.get(name, x) for name, x in here.numbers.items()}
    return replace(saved, parameters=matched, numbers=numbers), report


def _check_rule(call: str, saved: State, rule: Rule) -> None:
    """Refuse a file of another optimizer, or of one whose formula remembers something else."""
    name = described(rule, {}).full_name
    if saved.full_name != name:
        raise bad_value(call, "path", f"must hold the state of {name}", saved.full_name)
    if saved.match != rule.match and not same_memory(rule, rule.replace(match=saved.match)):
        worded = f"must be of the formula with match={rule.match!r}, as here: what the two remember differs in meaning"
        way_out = f"Load it into an optimizer with match={saved.match!r}."
        raise bad_value(call, "path", worded, f"match={saved.match!r}", way_out)


def _differing(saved: State, here: State) -> dict[str, tuple[object, object]]:
    both = [(k, saved.config[k], now) for k, now in here.config.items() if k in saved.config]
    return {k: (then, now) for k, then, now in both if then != now}


def _renamed(asked: Asked, saved: State, here: State) -> tuple[dict[str, ParameterState], dict[str, str]]:
    """The saved parameters by the names that they have here, and their names in the file."""
    wrong = [there for there in asked.rename if there not in saved.parameters]
    wrong += [name for name in asked.rename.values() if name not in here.parameters]
    if wrong:
        worded = "must map names in the file to names of this optimizer's parameters"
        known = f"The file has {_listed([*saved.parameters])}; here are {_listed([*here.parameters])}."
        raise bad_value(asked.call, "rename", worded, wrong[0], known)
    names = {asked.rename.get(there, there): there for there in saved.parameters}
    if len(names) != len(saved.parameters):
        raise bad_value(asked.call, "rename", "must leave each parameter a name of its own", dict(asked.rename))
    return {name: saved.parameters[there] for name, there in names.items()}, names


def _fitted(
    name: str,
    saved: ParameterState,
    here: ParameterState,
    axes: Shape | None,
    lines: Lines,
    report: Report,
) -> ParameterState:
    """The part of one parameter's state that is taken; `lines` are the slots of rows and columns."""
    if not saved.slots and saved.steps == 0:  # not stepped yet
        return ParameterState()
    slots: dict[str, Array] = {}
    lines = lines.of(saved, turned_back(lines.shape_of(here), axes))
    matched = {slot: lines.exchanged.get(slot, slot) if axes else slot for slot in here.slots}
    scales = {f"{slot}_scale" for p in (saved, here) for slot, x in p.slots.items() if x.dtype in BLOCK_DTYPES}
    for slot, form in here.slots.items():
        there, place = matched[slot], f"{name}/{slot}"
        if slot in scales or slot in OPTIONAL:
            continue
        if there not in saved.slots:
            report.missing.append(place)
        elif why := lines.misfit(slot, saved.slots[there], form, axes):
            report.misfits[place] = why
        else:
            turn = lines.axes(slot, saved.slots[there], axes)
            slots |= _converted(place, there, slot, saved, form, turn, report)
    slots |= _rounding(name, saved, here, axes, report)
    known = {*matched.values(), *scales, *OPTIONAL}
    report.left_over += [f"{name}/{slot}" for slot in saved.slots if slot not in known]
    return ParameterState(slots, saved.steps, here.shape, here.dtype, here.complex)


def _converted(
    place: str, there: str, slot: str, saved: ParameterState, form: Array, axes: Turn, report: Report
) -> dict[str, Array]:
    """One slot, with its scales, in the storage that it has here."""
    x, other = saved.slots[there], f"{slot}_scale"
    scales = saved.slots.get(f"{there}_scale")
    if x.dtype == form.dtype and axes is None:
        report.taken.append(place)
        return {slot: x} | ({other: scales} if scales and x.dtype in BLOCK_DTYPES else {})
    changes = [f"{x.dtype} to {form.dtype}"] * (x.dtype != form.dtype) + [f"axes {axes}"] * (axes is not None)
    report.converted[place] = ", ".join(changes)
    return dict(zip((slot, other), restored(x, scales, form.dtype, axes), strict=False))


def _rounding(
    name: str, saved: ParameterState, here: ParameterState, axes: Shape | None, report: Report
) -> dict[str, Array]:
    """What rounding keeps beside a parameter: the saved array if the parameter has the same dtype and shape, else the
    first value.
    """
    slots: dict[str, Array] = {}
    for slot in (slot for slot in OPTIONAL if slot in here.slots):
        x, form = saved.slots.get(slot), here.slots[slot]
        alike = x is not None and x.dtype == form.dtype and saved.dtype in (here.dtype, "")
        if x is not None and alike and turned(x.shape, axes if x.shape else None) == form.shape:
            report.taken.append(f"{name}/{slot}")
            slots[slot] = moved(x, axes if x.shape else None)
        elif slot == ROUNDING_ERROR:
            report.converted[f"{name}/{slot}"] = "begins at 0"
            slots[slot] = held(np.zeros(form.shape, form.dtype), form.dtype)
    return slots


def one_count(call: str, state: State, here: int) -> int:
    """The count of steps where there is one for all parameters; what has taken several counts is refused. Where the
    file has slots and no count it is that of now, and at least 1: the first step has been.
    """
    counts = {p.steps for p in state.parameters.values() if p.steps is not None}
    if len(counts) > 1:
        worded = "must have the same number of steps for all parameters: this framework counts once for all"
        raise bad_value(call, "path", worded, sorted(counts))
    if counts or not state.parameters:
        return counts.pop() if counts else state.step_count
    return max(here, 1)
