"""A saved state in the form of the optimizer that takes it, and the report of what became of it.

Slots are taken by the names of their parameter and their own. Numbers go over bit for bit where both sides store them
alike, and are converted where they do not. Nothing here changes an optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ..cpu import storage
from ..errors import bad_value
from ..formats import BLOCK_DTYPES, blocks
from ..matrix import INPUTS_FIRST
from ..numpy_state import same_memory
from ..rounding import ROUNDING_ERROR
from ..rule import Rule
from ..slots import EVERY, Extent
from .file import Array, held
from .layouts import OTHER, Shape, SlicesTurn, Turn, layout_of, transposed, turned, turned_to, turns
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
        found = [f"here only: {listed(self.missing)}"] * bool(self.missing)
        found += [f"in the file only: {listed(self.left_over)}"] * bool(self.left_over)
        return found + [f"{name} {why}" for name, why in list(self.misfits.items())[:_MOST]]

    def __str__(self) -> str:
        lines = [f"{len(self.taken)} arrays taken as they are, {len(self.converted)} converted"]
        lines += [f"  {name}: {how}" for name, how in self.converted.items()]
        lines += self.faults()
        lines += [f"{k} was {then!r} and is {now!r} here" for k, (then, now) in self.hyperparameters.items()]
        return "\n".join(lines)


def listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if len(names) > _MOST else "")


def fitted(asked: Asked, saved: State, here: State, rule: Rule) -> tuple[State, Report]:
    """What of `saved` an optimizer of this rule takes, in the form of `here`, whose arrays are not read but for the
    shapes and dtypes.
    """
    _check_rule(asked.call, saved, rule)
    parameters, names = _renamed(asked, saved, here)
    report = Report(hyperparameters=_differing(saved, here, names))
    pairs = {name: (parameters[name], p) for name, p in here.parameters.items() if name in parameters}
    there = layout_of(asked.call, asked.layout) or saved.layout
    lies = here.layout or (OTHER[there] if asked.layout else "")
    spans = {name: (shape_of(a), shape_of(b)) for name, (a, b) in pairs.items()}
    shapes = {name: (a, b) for name, (a, b) in spans.items() if a is not None and b is not None}
    axes = turns(asked.call, shapes, names, there, lies)
    axes |= _unseen(pairs, lines_of(rule), lies) if axes or asked.layout else {}
    taken = {name: _fitted(name, *pair, axes.get(name), lines_of(rule), report) for name, pair in pairs.items()}
    if rule.time_dependence == "step" and any(p.steps is None for p in taken.values()):
        report.converted["steps"] = "not counted in the file, those here stay"
    report.missing += [name for name, p in here.parameters.items() if name not in pairs and (p.slots or parameters)]
    others = {name: p for name, p in parameters.items() if name not in pairs}
    ours = here.parameters if not pairs else {}  # beside parameters of both, one that was not stepped is no loss
    report.left_over += [name for name, p in others.items() if p.slots or p.steps or p.steps is None or ours]
    if asked.strict and (faults := report.faults()):
        worded = "must be of the parameters, slots and shapes of this optimizer; " + "; ".join(faults)
        received = f"{len(saved.parameters)} parameters in the file, {len(here.parameters)} here"
        way_out = "Use `rename={name in the file: name here}`, or `strict=False` to take what fits."
        raise bad_value(asked.call, "optimizer", worded, received, way_out)
    numbers = {name: saved.numbers.get(name, x) for name, x in here.numbers.items()}
    return replace(saved, parameters=taken, numbers=numbers), report


def _unseen(pairs: Mapping[str, tuple[ParameterState, ParameterState]], lines: Lines, lies: str) -> dict[str, Shape]:
    """How kernels of more than two axes are turned of which only rows and columns are remembered here, where kernels
    are turned: JAX does not say the shapes of parameters.
    """
    many = {n: a.shape for n, (a, b) in pairs.items() if b.shape is None and lines.of(a).every & a.slots.keys()}
    found = {n: turned_to(lies or INPUTS_FIRST, n, len(shape)) for n, shape in many.items() if shape and len(shape) > 2}
    return {n: axes for n, axes in found.items() if axes is not None}


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
    then, now, found = saved.configs, here.configs, dict[str, tuple[object, object]]()
    firsts = {there: here for here, there in names.items()}
    others = [group.parameters[0] for group in here.groups]
    others += [firsts[group.parameters[0]] for group in saved.groups]
    for name in ("", *others):
        was, new = then.get(names.get(name, ""), saved.config), now.get(name, here.config)
        unlike = {k: (was[k], x) for k, x in new.items() if k in was and was[k] != x}
        found |= {f"{k} of {name}" if name else k: x for k, x in unlike.items() if found.get(k) != x}
    return found


def _renamed(asked: Asked, saved: State, here: State) -> tuple[dict[str, ParameterState], dict[str, str]]:
    """The saved parameters by the names that they have here, and their names in the file."""
    wrong = [there for there in asked.rename if there not in saved.parameters]
    wrong += [name for name in asked.rename.values() if name not in here.parameters]
    if wrong:
        worded = "must map names in the file to names of this optimizer's parameters"
        known = f"The file has {listed([*saved.parameters])}; here are {listed([*here.parameters])}."
        raise bad_value(asked.call, "rename", worded, wrong[0], known)
    names = {asked.rename.get(there, there): there for there in saved.parameters}
    if len(names) != len(saved.parameters):
        raise bad_value(asked.call, "rename", "must leave each parameter a name of its own", dict(asked.rename))
    return {name: saved.parameters[there] for name, there in names.items()}, names


def shape_of(p: ParameterState) -> Shape | None:
    """A parameter's shape: what is said of it, or what its arrays span; None of a complex one, which stays."""
    if p.complex or p.shape is not None:
        return None if p.complex else p.shape
    shapes = [x.shape for slot, x in p.slots.items() if not slot.endswith("_scale")]
    axes = max(map(len, shapes), default=None)
    return None if axes is None else tuple(map(max, zip(*(s for s in shapes if len(s) == axes), strict=True)))


def _fitted(
    name: str,
    saved: ParameterState,
    here: ParameterState,
    axes: Shape | None,
    lines: Lines,
    report: Report,
) -> ParameterState:
    """What of one parameter is taken; `lines` are the slots of rows and columns."""
    if not saved.slots and saved.steps == 0:  # not stepped yet
        return ParameterState()
    slots: dict[str, Array] = {}
    lines = lines.of(saved)
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


class Lines(NamedTuple):
    """The slots that are of the rows, columns or sides of a matrix: `exchanged` says what each becomes where the matrix
    is turned, and `whole` are those of sides, which are not turned themselves. `low` are of sides where the parameter
    is projected, and like it elsewhere. `slices` are lists of one number for each slice along each axis; `shape` is the
    parameter's, where it is known.
    """

    every: frozenset[str]
    exchanged: Mapping[str, str]
    whole: frozenset[str]
    low: frozenset[str] = frozenset()
    slices: frozenset[str] = frozenset()
    shape: Shape | None = None

    def of(self, p: ParameterState) -> Lines:
        """The slots of lines of this parameter. Beside a basis what is low is a projection, whatever its shape."""
        beside = not self.whole.isdisjoint(p.slots)
        low = {s for s in self.low if s in p.slots and (beside or p.slots[s].shape != shape_of(p))}
        return self._replace(every=self.every | low, whole=self.whole | low, shape=shape_of(p))

    def axes(self, slot: str, x: Array, axes: Shape | None) -> Turn:
        """How a slot of a parameter that is turned so is turned itself."""
        if slot in self.slices and axes is not None and self.shape is not None:
            return SlicesTurn(self.shape, axes)
        return None if slot in self.whole or len(x.shape) < 2 else axes

    def misfit(self, slot: str, x: Array, form: Array, axes: Shape | None) -> str:
        """Why an array cannot be this slot; empty if it can."""
        if axes and len(axes) > 2 and slot in self.every:
            return "is of rows and columns of axes that lie otherwise here"
        if x.dtype != form.dtype and not {x.dtype, form.dtype} <= storage.STORAGES.keys():
            return f"is of {x.dtype} in the file and {form.dtype} here"
        fits = turned(x.shape, self.axes(slot, x, axes)) == form.shape
        return "" if fits else f"is of shape {x.shape} in the file and {form.shape} here"


def lines_of(rule: Rule) -> Lines:
    """The slots of lines, in the order of the formula: the first of rows belongs with the first of columns."""
    slots = rule.all_slots()
    sides = frozenset(s.name for s in slots if s.extent is Extent.SIDE)
    slices = frozenset(s.name for s in slots if s.side == EVERY)
    rows, columns = ([s.name for s in slots if at in (s.axis, s.side)] for at in (-1, -2))
    pairs = list(zip(rows, columns, strict=False))
    return Lines(
        frozenset({*rows, *columns}) | sides - slices,
        dict(pairs) | {column: row for row, column in pairs},
        sides - slices,
        frozenset(s.name for s in slots if s.extent is Extent.LOW),
        slices,
    )


def moved(x: Array, axes: Turn) -> Array:
    """The array with other axes, as it is stored."""
    return x if axes is None else Array(x.dtype, turned(x.shape, axes), lambda: transposed(x.read(), axes))


def restored(x: Array, scales: Array | None, dtype: str, axes: Turn) -> tuple[Array, ...]:
    """The numbers of an array in another storage and with other axes, made when they are read; and scales of codes."""
    if dtype == x.dtype and dtype not in BLOCK_DTYPES:
        return (moved(x, axes),)

    def parts() -> tuple[np.ndarray, ...]:
        other = scales.read() if scales is not None and x.dtype in BLOCK_DTYPES else None
        numbers = storage.load(x.read(), x.dtype, other)
        return storage.store_parts(numbers if axes is None else transposed(numbers, axes), dtype)

    shape = turned(x.shape, axes)
    stored = Array(dtype, shape, lambda: parts()[0])
    if dtype not in BLOCK_DTYPES:
        return (stored,)
    return stored, Array("float32", (blocks(math.prod(shape)),), lambda: parts()[1])


def _converted(
    place: str, there: str, slot: str, saved: ParameterState, form: Array, axes: Turn, report: Report
) -> dict[str, Array]:
    """One slot, with its scales, in the storage that it has here."""
    x, other = saved.slots[there], f"{slot}_scale"
    scales = saved.slots.get(f"{there}_scale")
    if x.dtype == form.dtype and axes is None:
        report.taken.append(place)
        return {slot: x} | ({other: scales} if scales and x.dtype in BLOCK_DTYPES else {})
    turn = axes.axes if isinstance(axes, SlicesTurn) else axes
    changes = [f"{x.dtype} to {form.dtype}"] * (x.dtype != form.dtype) + [f"axes {turn}"] * (axes is not None)
    report.converted[place] = ", ".join(changes)
    return dict(zip((slot, other), restored(x, scales, form.dtype, axes), strict=False))


def _rounding(
    name: str, saved: ParameterState, here: ParameterState, axes: Shape | None, report: Report
) -> dict[str, Array]:
    """What rounding keeps beside a parameter: as it was saved if it is of the same parameter, and else at its first
    value.
    """
    found: dict[str, Array] = {}
    for slot in (slot for slot in OPTIONAL if slot in here.slots):
        x, form = saved.slots.get(slot), here.slots[slot]
        alike = x is not None and x.dtype == form.dtype and saved.dtype in (here.dtype, "")
        if x is not None and alike and turned(x.shape, axes if x.shape else None) == form.shape:
            report.taken.append(f"{name}/{slot}")
            found[slot] = moved(x, axes if x.shape else None)
        elif slot == ROUNDING_ERROR:
            report.converted[f"{name}/{slot}"] = "begins at 0"
            found[slot] = held(np.zeros(form.shape, form.dtype), form.dtype)
    return found
