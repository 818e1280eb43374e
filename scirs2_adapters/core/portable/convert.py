"""A state as another framework lays and names it, and two states compared; one array at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..errors import bad_value
from ..formats import BLOCK_DTYPES
from ..registry import get
from .file import Array
from .layouts import Shape, is_embedding, turned, turned_to
from .lines import Lines, lines_of, moved, restored
from .parts import moves_of, regrouped, shaped
from .state import OPTIONAL, ParameterState, State, numbers_in, renaming


def converted(call: str, state: State, layout: str, names: Mapping[str, str]) -> State:
    """The state with its kernels in this layout, and with the names and shapes that a map says."""
    plain, moves = moves_of(call, state, names)
    state = in_layout(call, regrouped(call, state, moves), layout, plain)
    return shaped(call, renamed(call, state, plain), moves)


def in_layout(call: str, state: State, layout: str, names: Mapping[str, str] | None = None) -> State:
    """The state with its kernels in this layout. `names` are other names of parameters, by which embeddings are known
    as well as by those here.
    """
    if not layout or layout == state.layout:
        return state
    rule, base = get(state.rule), state.config.get("base")
    lines = lines_of(rule(base=base) if base else rule())
    of_kernels = (
        p for p in state.parameters.values() if lines.slices & p.slots.keys() or len(lines.shape_of(p) or ()) > 1
    )
    if not state.layout and any(of_kernels):
        worded = "must say how the kernels of the file lie, which it does not know"
        raise bad_value(call, "layout", worded, None, 'Give "torch", "keras" or "flax".')
    tables = {name for name, other in (names or {}).items() if is_embedding(other)}
    kernels = {name: p for name, p in state.parameters.items() if name not in tables}
    parameters = {**state.parameters, **{n: _turned(call, n, p, layout, lines) for n, p in kernels.items()}}
    return replace(state, parameters=parameters, layout=layout)


def _turned(call: str, name: str, p: ParameterState, layout: str, lines: Lines) -> ParameterState:
    shape = lines.shape_of(p)
    if lines.untold(p) and not is_embedding(name):
        worded = "must say the shapes of kernels of which it has a number for each slice and nothing else"
        raise bad_value(call, "path", worded, name, "Load it, and save it again in PyTorch or Keras.")
    axes = None if shape is None else turned_to(layout, name, len(shape))
    if axes is None:
        return p
    beside = lines.of(p)
    projected = beside.low & p.slots.keys()
    if p.shape is None and beside.whole.isdisjoint(p.slots) and any(len(p.slots[s].shape) > 1 for s in projected):
        worded = "must say the shape of a parameter of which projections are remembered, which JAX does not keep"
        way_out = "Load the file as it is with `scirs2_adapters.state.load`."
        raise bad_value(call, "path", worded, name, way_out)
    if any(beside.stuck(slot, p.slots[slot], axes) for slot in p.slots):
        worded = "must have no rows and columns of kernels of more than two axes, which lie otherwise there"
        raise bad_value(call, "path", worded, name)
    return in_axes(p, axes, lines)


def in_axes(p: ParameterState, axes: Shape, lines: Lines) -> ParameterState:
    """What is remembered of a parameter, as it is of the one with these axes."""
    slots: dict[str, Array] = {}
    lines = lines.of(p)
    for slot, x in p.slots.items():
        if len(x.shape) == len(axes) or slot in lines.slices or slot in lines.squares:
            names = (lines.exchanged.get(slot, slot), f"{slot}_scale")
            codes = x.dtype in BLOCK_DTYPES and slot not in OPTIONAL
            arrays = restored(x, p.slots[names[1]], x.dtype, axes) if codes else (moved(x, lines.axes(slot, x, axes)),)
            slots |= dict(zip(names, arrays, strict=False))
        else:
            slots.setdefault(slot, x)
    return replace(p, slots=slots, shape=None if p.shape is None else turned(p.shape, axes))


def renamed(call: str, state: State, names: Mapping[str, str]) -> State:
    """The state with other names for some parameters."""
    parameters = {new: state.parameters[old] for new, old in renaming(call, "names", state.parameters, names).items()}
    groups = tuple(g._replace(parameters=[names.get(name, name) for name in g.parameters]) for g in state.groups)
    return replace(state, parameters=parameters, groups=groups)


class Difference(NamedTuple):
    """What two states say of one place: the largest difference of numbers, or what is otherwise unlike."""

    place: str
    largest: float
    reason: str = ""


def differences(one: State, other: State) -> Iterator[Difference]:
    """Where two states differ: facts, then slots by name."""
    for key in ("full_name", "match", "step_count", "skipped_steps"):
        a, b = getattr(one, key), getattr(other, key)
        if a != b:
            yield Difference(key, math.nan, f"{a!r} and {b!r}")
    facts = [{**state.config, **state.numbers} for state in (one, other)]
    for key in sorted((facts[0].keys() | facts[1].keys()) - {"match", "base"}):
        a, b = (each.get(key) for each in facts)
        if a != b:
            yield Difference(key, math.nan, f"{a!r} and {b!r}")
    yield from _between_groups(one, other)
    for name in sorted({*one.parameters, *other.parameters}):
        yield from _between(name, one.parameters.get(name), other.parameters.get(name))


def _between_groups(one: State, other: State) -> Iterator[Difference]:
    """The hyperparameters of further groups that differ, each by the first parameter that has them."""
    seen: list[tuple[str, object, object]] = [(k, x, other.config.get(k)) for k, x in one.config.items()]
    configs = other.configs if one.groups or other.groups else {}
    for name, config in one.configs.items():
        for key in sorted(config.keys() & configs.get(name, {}).keys() - {"base"}):
            entry = (key, config[key], configs[name][key])
            if entry[1] != entry[2] and entry not in seen:
                seen.append(entry)
                yield Difference(f"{key} of {name}", math.nan, f"{entry[1]!r} and {entry[2]!r}")


def _between(name: str, a: ParameterState | None, b: ParameterState | None) -> Iterator[Difference]:
    if a is None or b is None:
        yield Difference(name, math.nan, f"only in the {'second' if a is None else 'first'}")
        return
    if a.steps != b.steps:
        yield Difference(f"{name} steps", math.nan, f"{a.steps} and {b.steps}")
    for slot in sorted({*a.slots, *b.slots}):
        place = f"{name}/{slot}"
        if slot not in a.slots or slot not in b.slots:
            if slot.removesuffix("_scale") == slot:
                yield Difference(place, math.nan, f"only in the {'second' if slot not in a.slots else 'first'}")
        elif a.slots[slot].shape != b.slots[slot].shape:
            yield Difference(place, math.nan, f"shapes {a.slots[slot].shape} and {b.slots[slot].shape}")
        elif (largest := _largest(numbers_in(a, slot), numbers_in(b, slot))) != 0:
            yield Difference(place, largest)


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference; numbers that are the same infinity or NaN do not differ."""
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        off = np.where(alike, 0.0, np.abs(a - b))
    return float(np.nan_to_num(np.max(off, initial=0.0), nan=math.inf))
