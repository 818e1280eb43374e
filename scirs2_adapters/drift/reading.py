"""Recordings, read one step at a time, and two of them brought to the same names and layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scirs2_adapters.core import registry
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.portable.convert import in_axes
from scirs2_adapters.core.portable.file import Array, held
from scirs2_adapters.core.portable.layouts import Shape, turned, turns
from scirs2_adapters.core.portable.lines import NO_LINES, Lines, lines_of
from scirs2_adapters.core.portable.recording import NORM, PARAM
from scirs2_adapters.core.portable.state import OPTIONAL, ParameterState, State, loaded, numbers_in

_NAME = re.compile(r"(\d{8})\.(\d{3})\.safetensors")
_MOST = 8


@dataclass(frozen=True)
class Step:
    """One step of a run: what its file has, by group; `axes` says how each parameter is turned when it is read."""

    number: int
    groups: tuple[State, ...]

    @property
    def parameters(self) -> dict[str, ParameterState]:
        """What there is of each parameter."""
        return {name: p for state in self.groups for name, p in state.parameters.items()}

    def group_of(self, name: str) -> State:
        """The group of a parameter."""
        return next(state for state in self.groups if name in state.parameters)

    def numbers(self, name: str, slot: str) -> np.ndarray | None:
        """The numbers of a slot, in float64; None if there are none."""
        p = self.parameters.get(name)
        return numbers_in(p, slot) if p is not None and slot in p.slots else None


class Run:
    """A folder that `record` wrote."""

    def __init__(self, call: str, argument: str, folder: Path) -> None:
        self.call, self.argument, self.folder = call, argument, folder
        self._names: Mapping[str, str] = {}
        self._axes: Mapping[str, Shape] = {}
        self._files: dict[int, list[Path]] = {}
        self._always: frozenset[str] = frozenset()
        if not folder.is_dir():
            raise self._refused("there is no such folder")
        for path in sorted(folder.iterdir()):
            if (match := _NAME.fullmatch(path.name)) is not None:
                self._files.setdefault(int(match[1]), []).append(path)
        if not self._files:
            raise self._refused("this one has no steps in it")
        if lacking := sorted({*range(len(self._files))} - self._files.keys()):
            raise self._refused(f"this one lacks step {lacking[0]}")

    def _refused(self, why: str) -> Exception:
        worded = f"must be a folder that `scirs2_adapters.record` wrote; {why}"
        return bad_value(self.call, self.argument, worded, str(self.folder))

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return len(self._files) - 1

    def step(self, number: int) -> Step:
        """What there is after this step; 0 is the start."""
        step = Step(number, tuple(self._read(path) for path in self._files[number]))
        if lacking := self._always - step.parameters.keys():
            why = f"step {number} lacks {_listed(lacking)}, as where a run is stopped while it writes: remove its files"
            raise self._refused(why)
        return step

    def _read(self, path: Path) -> State:
        with loaded(self.call, path) as state:
            if not all(PARAM in p.slots for p in state.parameters.values()):
                raise self._refused(f"{path.name} holds no parameters")
            parameters, lines = {}, _lines(state)
            for there, p in state.parameters.items():
                name = self._names.get(there, there)
                parameters[name] = _read(p, self._axes.get(name), lines)
            return replace(state, parameters=parameters)

    def like(self, other: Run, names: Mapping[str, str], layout: str) -> None:
        """Give parameters the names and layouts of another run from now on."""
        here, there = self.step(0).parameters, other.step(0).parameters
        if unknown := names.keys() - here.keys():
            worded = f"must map names of {self.argument} to names of {other.argument}"
            known = f"{self.argument} has {_listed(here)}; {other.argument} has {_listed(there)}."
            raise bad_value(self.call, "names", worded, min(unknown), known)
        called = {names.get(name, name): name for name in here}
        if len(called) != len(here) or called.keys() != there.keys():
            worded = f"must have the parameters of {other.argument}; only in {self.argument}: "
            worded += f"{_listed(called.keys() - there.keys())}; only in {other.argument}: "
            worded += _listed(there.keys() - called.keys())
            way_out = f"Give names of {self.argument} to names of {other.argument}: `--names names.json`."
            raise bad_value(self.call, self.argument, worded, f"{len(here)} parameters", way_out)
        pairs = {n: (NO_LINES.shape_of(here[called[n]]), NO_LINES.shape_of(there[n])) for n in called}
        shapes = {n: (a, b) for n, (a, b) in pairs.items() if a is not None and b is not None}
        lies, wanted = (run.step(0).groups[0].layout or layout for run in (self, other))
        self._axes = turns(self.call, shapes, called, lies, wanted)
        for name, (shape, expected) in shapes.items():
            if turned(shape, self._axes.get(name)) != expected:
                worded = f"must have parameters of the shapes of {other.argument}: {name} is {expected} there"
                raise bad_value(self.call, self.argument, worded, shape)
        self._names = {old: new for new, old in called.items()}
        self._always = other._always = frozenset(called)
        self._sampled_like(other)

    def _sampled_like(self, other: Run) -> None:
        """Refuse samples that have other places of the same arrays."""
        for name, p in self.step(0).parameters.items():
            here, there = (x.slots[PARAM].shape for x in (p, other.step(0).parameters[name]))
            if here != there:
                worded = f"must be recorded with the `largest` of {other.argument}: of {name} it has {there}"
                raise bad_value(self.call, self.argument, worded, here)


def _listed(names: object) -> str:
    ordered = sorted(names)  # type: ignore[call-overload]
    return ", ".join(ordered[:_MOST]) + (f" and {len(ordered) - _MOST} more" if len(ordered) > _MOST else "") or "none"


def _lines(state: State) -> Lines:
    """The slots of this optimizer that do not lie as their parameters do; of one that is not ours, none."""
    if state.rule not in {*registry.names(), *registry.with_value()}:
        return NO_LINES
    base = state.config.get("base")
    return lines_of(registry.get(state.rule)(**({"base": base} if base else {})))


def _read(p: ParameterState, axes: Shape | None, lines: Lines) -> ParameterState:
    """A parameter with its arrays in memory, turned, without those that have no place in the other layout: numbers of
    rows and columns of kernels of more than two axes, and samples of numbers for slices.
    """
    slots: dict[str, Array] = {}
    coded = {slot for slot in p.slots if f"{slot}_scale" in p.slots and slot not in OPTIONAL}
    for slot, x in p.slots.items():
        if slot.removesuffix("_scale") not in coded or slot in coded:
            numbers = numbers_in(p, slot).astype(np.float32) if slot in coded else x.read()
            slots[slot] = held(numbers, "float32" if slot in coded else x.dtype)
    p, lines = replace(p, slots=slots), lines.of(p)
    if axes is None:
        return p
    lost = {slot for slot in lines.slices if f"{slot}{NORM}" in slots} | (lines.every if len(axes) > 2 else set())
    arrays = {slot: x for slot, x in slots.items() if not slot.endswith(NORM) and slot not in lost}
    norms = {slot.removesuffix(NORM): x for slot, x in slots.items() if slot.endswith(NORM)}
    p = in_axes(replace(p, slots=arrays), axes, lines)
    arrays = {slot: held(x.read(), x.dtype) for slot, x in p.slots.items()}
    norms = {lines.exchanged.get(slot, slot): x for slot, x in norms.items() if slot not in lost}
    return replace(p, slots=arrays | {f"{slot}{NORM}": x for slot, x in norms.items()})
