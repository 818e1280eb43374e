"""Parameters that are one in one framework and several in another, as the weights of queries, keys and values are, or
that lie in other shapes, as with an axis of heads: what is remembered of them goes together, apart, or into that shape.

A map of names says so: `{"qkv.weight": "q.kernel[16, 2, 8] + k.kernel[16, 2, 8] + v.kernel[16, 2, 8]"}`. Parts lie one
after another along the outputs.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..cpu import storage
from ..errors import bad_value
from ..formats import BLOCK_DTYPES, blocks
from ..matrix import OUTPUTS_FIRST
from ..rounding import ROUNDING_SEED
from .file import Array
from .layouts import Shape
from .lines import NO_LINES
from .state import OPTIONAL, ParameterState, State

_TERM = re.compile(r"(.+?)\s*(?:\[\s*(\d+(?:\s*,\s*\d+)*)\s*\])?")
#: What becomes of the numbers of some arrays.
Change = Callable[[list[np.ndarray]], np.ndarray]


class Term(NamedTuple):
    """A parameter by name, and the shape that is asked for. A name that is in the file is one, whatever it ends in."""

    name: str
    shape: Shape | None = None


class Move(NamedTuple):
    """What becomes of what: one parameter of several, several of one, or one of another shape."""

    sources: Sequence[Term]
    targets: Sequence[Term]


def moves_of(call: str, state: State, names: Mapping[str, str]) -> tuple[dict[str, str], list[Move]]:
    """The names that are changed alone, and the moves."""
    plain, moves = dict[str, str](), list[Move]()
    for there, here in names.items():
        sources = [Term(there)] if there in state.parameters else _terms(there)
        move = Move(sources, _terms(here))
        if len(sources) == 1 and move.targets == [Term(here)] and sources[0].shape is None:
            plain[there] = here
        elif min(map(len, move)) > 1:
            raise bad_value(call, "names", "must have one name on one side of each entry", f"{there}: {here}")
        else:
            moves.append(move)
    used = [*plain, *(term.name for move in moves for term in move.sources)]
    if unknown := [name for name in used if name not in state.parameters]:
        shown = ", ".join(list(state.parameters)[:8])
        raise bad_value(call, "names", "must map names that are in the file", unknown[0], f"There are {shown}.")
    if not all(term.name for move in moves for term in move.targets) or "" in plain.values():
        raise bad_value(call, "names", "must give each parameter a name", "")
    if twice := [name for name in used if used.count(name) > 1]:
        raise bad_value(call, "names", "must name each parameter once", twice[0])
    return plain, moves


def _terms(text: str) -> list[Term]:
    return list(map(_term, text.split(" + ")))


def _term(text: str) -> Term:
    if (term := _TERM.fullmatch(text.strip())) is None:
        return Term("")
    return Term(term[1], tuple(map(int, term[2].split(","))) if term[2] else None)


def regrouped(call: str, state: State, moves: Sequence[Move]) -> State:
    """The state with parameters put together and taken apart; their new shapes are those of kernels still."""
    results = {move.sources[0].name: _parts(call, state, move) for move in moves}
    gone = {term.name for move in moves for term in move.sources}
    parameters: dict[str, ParameterState] = {}
    for name, p in state.parameters.items():
        new = results.get(name, {} if name in gone else {name: p})
        if twice := parameters.keys() & new.keys():
            raise bad_value(call, "names", "must leave each parameter a name of its own", min(twice))
        parameters |= new
    groups = [
        g._replace(parameters=[n for name in g.parameters for n in results.get(name, () if name in gone else (name,))])
        for g in state.groups
    ]
    return replace(state, parameters=parameters, groups=tuple(groups))


def shaped(call: str, state: State, moves: Sequence[Move]) -> State:
    """The state with the shapes that were asked for."""
    parameters = dict(state.parameters)
    for term in (term for move in moves for term in move.targets if term.shape is not None):
        parameters[term.name] = _reshaped(call, parameters[term.name], term)
    return replace(state, parameters=parameters)


def _parts(call: str, state: State, move: Move) -> dict[str, ParameterState]:
    """What becomes of the parameters of a move, in the layout of the file."""
    held = [_reshaped(call, state.parameters[term.name], term) for term in move.sources]
    if len(held) == len(move.targets):
        return {move.targets[0].name: held[0]}
    first, name = held[0], move.sources[0].name
    alike = [(p.steps, p.dtype, p.slots.keys(), state.configs[t.name]) for p, t in zip(held, move.sources, strict=True)]
    if any(other != alike[0] for other in alike):
        worded = "must put together parameters of one group, dtype and count of steps, with the same slots"
        raise bad_value(call, "names", worded, " + ".join(term.name for term in move.sources))
    shapes = [NO_LINES.shape_of(p) or () for p in held]
    axis = _outputs(call, state, name, shapes[0])
    if len(held) > 1:
        if len({shape[:axis] + shape[axis + 1 :] for shape in shapes}) > 1:
            raise bad_value(call, "names", "must put together parameters of as many inputs", shapes)
        whole = _with(shapes[0], axis, sum(shape[axis] for shape in shapes))
        joined = _changed(call, name, held, whole, lambda parts: np.concatenate(parts, axis))
        return {move.targets[0].name: joined}
    ends = list(itertools.accumulate(_lengths(call, move, shapes[0], axis), initial=0))
    return {
        term.name: _changed(call, name, [first], _with(shapes[0], axis, stop - start), _cut(axis, start, stop))
        for term, (start, stop) in zip(move.targets, itertools.pairwise(ends), strict=True)
    }


def _with(shape: Shape, axis: int, length: int) -> Shape:
    return (*shape[:axis], length, *shape[axis + 1 :])


def _cut(axis: int, start: int, stop: int) -> Change:
    return lambda arrays: np.take(arrays[0], range(start, stop), axis)


def _outputs(call: str, state: State, name: str, shape: Shape) -> int:
    """The axis of a kernel's outputs; that of a vector is its one."""
    if len(shape) < 2:
        return 0
    if not state.layout:
        worded = f"must say how the kernels of the file lie, which is where {name} is put together or taken apart"
        raise bad_value(call, "layout", worded, None, 'Give "torch", "keras" or "flax".')
    return 0 if state.layout == OUTPUTS_FIRST else len(shape) - 1


def _lengths(call: str, move: Move, shape: Shape, axis: int) -> list[int]:
    """How many outputs each part has: as its shape says, and else each as many."""
    numbers, outputs = math.prod(shape), shape[axis] if shape else 0
    wanted = [numbers // len(move.targets) if t.shape is None else math.prod(t.shape) for t in move.targets]
    if not numbers or sum(wanted) != numbers or any(n * outputs % numbers for n in wanted):
        worded = f"must take {move.sources[0].name} of shape {shape} apart into whole outputs"
        raise bad_value(call, "names", worded, " + ".join(t.name + str(list(t.shape or ())) for t in move.targets))
    return [n * outputs // numbers for n in wanted]


def _reshaped(call: str, p: ParameterState, term: Term) -> ParameterState:
    """What is remembered of a parameter that lies in another shape, its numbers in the same order."""
    if term.shape is None:
        return p
    if math.prod(NO_LINES.shape_of(p) or (-1,)) != math.prod(term.shape):
        worded = f"must give {term.name} a shape of as many numbers as {NO_LINES.shape_of(p)} has"
        raise bad_value(call, "names", worded, list(term.shape))
    shape = term.shape
    changed = _changed(call, term.name, [p], shape, lambda arrays: arrays[0].reshape(shape))
    return replace(changed, slots={**changed.slots, **{n: x for n, x in p.slots.items() if n == ROUNDING_SEED}})


def _changed(call: str, name: str, held: Sequence[ParameterState], shape: Shape, change: Change) -> ParameterState:
    """The slots of some parameters as those of one, which are like it; stochastic rounding begins with another seed."""
    first, slots = held[0], dict[str, Array]()
    for slot, x in first.slots.items():
        coded = x.dtype in BLOCK_DTYPES and slot not in OPTIONAL
        if slot == ROUNDING_SEED or (slot.endswith("_scale") and slot.removesuffix("_scale") in first.slots):
            continue
        if x.shape != NO_LINES.shape_of(first) or {p.slots[slot].dtype for p in held} != {x.dtype}:
            worded = f"must leave {name} as it is: its {slot} is not like it, and belongs to the whole parameter"
            raise bad_value(call, "names", worded, x.shape)
        read = [(p.slots[slot], p.slots.get(f"{slot}_scale") if coded else None) for p in held]
        names = (slot, f"{slot}_scale")
        slots |= dict(zip(names, _arrays(read, x.dtype, shape, change), strict=False))
    return replace(first, slots=slots, shape=None if first.shape is None else shape)


def _arrays(
    read: Sequence[tuple[Array, Array | None]], dtype: str, shape: Shape, change: Change
) -> tuple[Array, ...]:  # fmt: skip
    """The array that is made of some, when it is read; of codes, their numbers are changed and coded again."""
    if read[0][1] is None:
        return (Array(dtype, shape, lambda: change([x.read() for x, _ in read])),)

    def parts() -> tuple[np.ndarray, ...]:
        numbers = [storage.load(x.read(), dtype, scales.read() if scales else None) for x, scales in read]
        return storage.store_parts(np.ascontiguousarray(change(numbers)), dtype)

    count = (blocks(math.prod(shape)),)
    return Array(dtype, shape, lambda: parts()[0]), Array("float32", count, lambda: parts()[1])
