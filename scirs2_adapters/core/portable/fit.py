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
from ..matrix import INPUTS_FIRST
from ..numpy_state import same_memory
from ..rounding import ROUNDING_ERROR
from ..rule import Rule
from .file import Array, held
from .layouts import OTHER, Shape, SideTurn, SlicesTurn, Turn, layout_of, turned, turned_back, turned_to, turns
from .lines import Lines, lines_of, moved, restored
from .state import OPTIONAL, ParameterState, State, described, renaming

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
        faults = [f"here only: {listed(self.missing)}"] * bool(self.missing)
        faults += [f"in the file only: {listed(self.left_over)}"] * bool(self.left_over)
        return faults + [f"{name} {why}" for name, why in list(self.misfits.items())[:_MOST]]

    def __str__(self) -> str:
        lines = [f"{len(self.taken)} arrays taken as they are, {len(self.converted)} converted"]
        lines += [f"  {name}: {how}" for name, how in self.converted.items()]
        lines += self.faults()
        lines += [f"{k} was {then!r} and is {now!r} here" for k, (then, now) in self.hyperparameters.items()]
        return "\n".join(lines)


def listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


def fitted(asked: Asked, saved: State, here: State, rule: Rule) -> tuple[State, Report]:
    """The part of `saved` that an optimizer of this rule takes, in the form of `here`. Of the arrays in `here` only
    shapes and dtypes are read.
    """
    _check_rule(asked.call, saved, rule)
    parameters, names = _renamed(asked, saved, here)
    report = Report(hyperparameters=_differing(saved, here, names))
    pairs = {name: (parameters[name], p) for name, p in here.parameters.items() if name in parameters}
    there = layout_of(asked.call, asked.layout) or saved.layout
    lies = here.layout or (OTHER[there] if asked.layout else "")
    lines = lines_of(rule)
    shapes = {name: (lines.shape_of(a), lines.shape_of(b)) for name, (a, b) in pairs.items() if lines.tell(a, b)}
    axes = turns(asked.call, shapes, names, there, lies)
    axes |= _unseen(pairs, lines, lies) if axes or asked.layout else {}
    if there and lies and there != lies:
        untold = [name for name, pair in pairs.items() if all(map(lines.untold, pair))]
        report.misfits |= dict.fromkeys(untold, "has a number for each slice, and its shape is not known")
    matched = {name: _fitted(name, *pair, axes.get(name), lines, report) for name, pair in pairs.items()}
    if rule.time_dependence == "step" and any(p.steps is None for p in matched.values()):
        report.converted["steps"] = "not counted in the file, those here stay"
    report.missing += [name for name, p in here.parameters.items() if name not in pairs and (p.slots or parameters)]
    others = {name: p for name, p in parameters.items() if name not in pairs}
    # without slots JAX knows no parameters; and beside parameters of both, one that was not stepped is no loss
    counted = [name for name, p in others.items() if here.parameters and (p.steps != 0 or not pairs)]
    report.left_over += [name for name, p in others.items() if p.slots or name in counted]
    if asked.strict and (faults := report.faults()):
        worded = "must be of the parameters, slots and shapes of this optimizer; " + "; ".join(faults)
        received = f"{len(saved.parameters)} parameters in the file, {len(here.parameters)} here"
        way_out = "Use `rename={name in the file: name here}`, or `strict=False` to take what fits."
        raise bad_value(asked.call, "optimizer", worded, received, way_out)
    numbers = {name: saved.numbers.get(name, x) for name, x in here.numbers.items()}
    return replace(saved, parameters=matched, numbers=numbers), report


def _unseen(pairs: Mapping[str, tuple[ParameterState, ParameterState]], lines: Lines, lies: str) -> dict[str, Shape]:
    """How kernels of more than two axes are turned of which only rows and columns are remembered here, where kernels
    are turned: JAX does not say the shapes of parameters.
    """
    many = {n: a.shape for n, (a, b) in pairs.items() if b.shape is None and lines.of(a).every & a.slots.keys()}
    turns = {n: turned_to(lies or INPUTS_FIRST, n, len(shape)) for n, shape in many.items() if shape and len(shape) > 2}
    return {n: axes for n, axes in turns.items() if axes is not None}


def _check_rule(call: str, saved: State, rule: Rule) -> None:
    """Refuse a file of another optimizer, or of one whose formula remembers something else."""
    name = described(rule, {}).full_name
    if saved.full_name != name:
        raise bad_value(call, "path", f"must hold the state of {name}", saved.full_name)
    if saved.match != rule.match and not same_memory(rule, rule.replace(match=saved.match)):
        worded = f"must be of the formula with match={rule.match!r}, as here: what the two remember differs in meaning"
        way_out = f"Load it into an optimizer with match={saved.match!r}."
        raise bad_value(call, "path", worded, f"match={saved.match!r}", way_out)


def _differing(saved: State, here: State, names: Mapping[str, str]) -> dict[str, tuple[object, object]]:
    """The hyperparameters that both sides know and that differ; those of a further group by its first parameter."""
    then, now, differing = saved.configs, here.configs, dict[str, tuple[object, object]]()
    firsts = {there: here for here, there in names.items()}
    others = [group.parameters[0] for group in here.groups]
    others += [firsts[group.parameters[0]] for group in saved.groups]
    for name in ("", *others):
        was, new = then.get(names.get(name, ""), saved.config), now.get(name, here.config)
        unlike = {k: (was[k], x) for k, x in new.items() if k in was and was[k] != x}
        differing |= {f"{k} of {name}" if name else k: x for k, x in unlike.items() if differing.get(k) != x}
    return differing


def _renamed(asked: Asked, saved: State, here: State) -> tuple[dict[str, ParameterState], dict[str, str]]:
    """The saved parameters by the names that they have here, and their names in the file."""
    wrong = [there for there in asked.rename if there not in saved.parameters]
    wrong += [name for name in asked.rename.values() if name not in here.parameters]
    if wrong:
        worded = "must map names in the file to names of this optimizer's parameters"
        known = f"The file has {listed([*saved.parameters])}; here are {listed([*here.parameters])}."
        raise bad_value(asked.call, "rename", worded, wrong[0], known)
    names = renaming(asked.call, "rename", saved.parameters, asked.rename)
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
        return ParameterState(initial_lr=saved.initial_lr)
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
        elif why := lines.misfit(there, saved.slots[there], form, axes):
            report.misfits[place] = why
        else:
            turn = lines.axes(there, saved.slots[there], axes)
            slots |= _converted(place, there, slot, saved, form, turn, report)
    slots |= _rounding(name, saved, here, axes, report)
    known = {*matched.values(), *scales, *OPTIONAL}
    report.left_over += [f"{name}/{slot}" for slot in saved.slots if slot not in known]
    return ParameterState(slots, saved.steps, here.shape, here.dtype, here.complex, saved.initial_lr)


def _converted(
    place: str, there: str, slot: str, saved: ParameterState, form: Array, axes: Turn, report: Report
) -> dict[str, Array]:
    """One slot, with its scales, in the storage that it has here."""
    x, other = saved.slots[there], f"{slot}_scale"
    scales = saved.slots.get(f"{there}_scale")
    if x.dtype == form.dtype and axes is None:
        report.taken.append(place)
        return {slot: x} | ({other: scales} if scales and x.dtype in BLOCK_DTYPES else {})
    turn = axes.axes if isinstance(axes, (SlicesTurn, SideTurn)) else axes
    word = "rows and columns by axes" if isinstance(axes, SideTurn) else "axes"
    changes = [f"{x.dtype} to {form.dtype}"] * (x.dtype != form.dtype) + [f"{word} {turn}"] * (axes is not None)
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
