"""How frameworks lay kernels: torch outputs first, Keras and flax inputs first. A state goes from one to the other by
turning every array that is like a kernel as the kernel itself is turned.

Dense kernels and those of convolutions are turned, embeddings and vectors are not. Where both sides are known to lie
otherwise, as of torch and Keras, that is all. Where one is not, as in JAX, shapes tell, and square kernels by their
names or with the others; a case that cannot be decided is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..errors import bad_value, did_you_mean
from ..matrix import INPUTS_FIRST, OUTPUTS_FIRST

#: What users call the layouts.
WORDS = {
    "torch": OUTPUTS_FIRST, "keras": INPUTS_FIRST, "flax": INPUTS_FIRST,
    OUTPUTS_FIRST: OUTPUTS_FIRST, INPUTS_FIRST: INPUTS_FIRST,
}  # fmt: skip
OTHER = {OUTPUTS_FIRST: INPUTS_FIRST, INPUTS_FIRST: OUTPUTS_FIRST}
Shape = tuple[int, ...]


class SlicesTurn(NamedTuple):
    """How a list of one number for each slice along each axis is put, where the axes of the parameter, of these
    `lengths`, are put so.
    """

    lengths: Shape
    axes: Shape


class SideTurn(NamedTuple):
    """How the rows and columns of a square of one side of the parameter are put: the side is of axes of these
    `lengths`, which are put so.
    """

    lengths: Shape
    axes: Shape


#: How an array is put where its parameter is turned; None where it stays.
Turn = Shape | SlicesTurn | SideTurn | None
#: How the axes of a kernel of so many axes are put, to lie in this layout.
TURNS: Mapping[str, Mapping[int, Shape]] = {
    OUTPUTS_FIRST: {2: (1, 0), 3: (2, 1, 0), 4: (3, 2, 0, 1), 5: (4, 3, 0, 1, 2)},
    INPUTS_FIRST: {2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0), 5: (2, 3, 4, 1, 0)},
}
_EMBEDDINGS = ("embed", "wte", "wpe")


def layout_of(call: str, word: str | None) -> str:
    """The layout that a user's word means; nothing for None."""
    if word is not None and word not in WORDS:
        worded = "must be None or one of " + ", ".join(map(repr, WORDS))
        raise bad_value(call, "layout", worded, word, did_you_mean(str(word), WORDS))
    return "" if word is None else WORDS[word]


def is_embedding(name: str) -> bool:
    """Whether a parameter is a table of rows by its name, which no framework turns."""
    return any(word in name.lower() for word in _EMBEDDINGS)


def turned_to(layout: str, name: str, axes: int) -> Shape | None:
    """How a parameter of this name is put to lie in this layout, from the other one; None where it stays."""
    return None if is_embedding(name) else TURNS[layout].get(axes)


def turned(shape: Shape, axes: Turn) -> Shape:
    """The shape of what was turned."""
    return shape if axes is None or isinstance(axes, (SlicesTurn, SideTurn)) else tuple(shape[i] for i in axes)


def turned_back(shape: Shape | None, axes: Shape | None) -> Shape | None:
    """The shape of what becomes of this shape when it is turned; None of a shape with other axes."""
    if shape is None or axes is None:
        return shape
    return tuple(shape[axes.index(i)] for i in range(len(axes))) if len(shape) == len(axes) else None


def turns(
    call: str,
    shapes: Mapping[str, tuple[Shape | None, Shape | None]],
    names: Mapping[str, str],
    there: str,
    here: str,
) -> dict[str, Shape]:
    """The axes of each parameter that is turned, by its name here. `shapes` are those there and here, `names` those
    there; the layouts are empty where they are not known, and shapes None.
    """
    if there and there == here:
        return {}
    possible = {name: _fitting(names[name], *pair, there, here) for name, pair in shapes.items()}
    tables = {name for name in shapes if is_embedding(name) or is_embedding(names[name])}
    tables |= {name for name, (a, b) in shapes.items() if len((a if b is None else b) or ()) < 2}
    certain = [axes for name, (straight, axes) in possible.items() if name not in tables and not (straight and axes)]
    turn, stay = any(axes for axes in certain), any(axes is None for axes in certain)
    seen = Seen(bool(there and here), bool(there or here), turn, stay)
    axes_by_name: dict[str, Shape] = {}
    for name, (straight, axes) in possible.items():
        if axes is not None and name not in tables and (not straight or seen.turns(call, names[name], name)):
            axes_by_name[name] = axes
    return axes_by_name


class Seen(NamedTuple):
    """What is known of all kernels together: the layouts of both sides, or of one, and whether there are kernels that
    fit only when they are turned, or only as they are.
    """

    both: bool
    one: bool
    turn: bool
    stay: bool

    def turns(self, call: str, there: str, here: str) -> bool:
        """Whether a kernel is turned that fits both ways, as a square kernel does."""
        kernels = [name.rpartition(".")[2].rpartition("/")[2] == "kernel" for name in (there, here)]
        if kernels[0] != kernels[1]:
            return True
        if self.both:  # and otherwise on each, unless kernels that fit as they are say that they lie alike
            return self.turn or not self.stay
        if all(kernels):
            return False
        if self.turn != self.stay:
            return self.turn
        if not self.turn and not self.one:
            return False
        worded = f"must say how kernels lie in the file: {here} has the same shape either way"
        raise bad_value(call, "layout", worded, None, 'Give "torch" (outputs first) or "keras" (inputs first).')


def _fitting(name: str, shape: Shape | None, wanted: Shape | None, there: str, here: str) -> tuple[bool, Shape | None]:
    """Whether a parameter fits as it is, and the axes by which it fits when it is turned; where a shape is not known it
    fits both ways.
    """
    others = [here] if here else [layout for layout in TURNS if layout != there]
    all_axes = [turned_to(layout, name, len((wanted if shape is None else shape) or ())) for layout in others]
    if shape is None or wanted is None:
        return True, next(filter(None, all_axes), None)
    return shape == wanted, next((a for a in all_axes if a and turned(shape, a) == wanted), None)


def side_turn(length: int, at: int, shape: Shape, axes: Shape) -> SideTurn | None:
    """How a side of so many numbers is put that lies first (-2) or last (-1) in a kernel of this shape, which is turned
    so. The side is of one axis or of all but one; None where neither is so long.
    """
    count = len(shape)
    sides = (range(1), range(count - 1)) if at == -2 else (range(count - 1, count), range(1, count))
    side = next((s for s in sides if math.prod(shape[a] for a in s) == length), None)
    if side is None:
        return None
    return SideTurn(tuple(shape[a] for a in side), tuple(side.index(a) for a in axes if a in side))


def transposed(x: np.ndarray, axes: Shape | SlicesTurn | SideTurn) -> np.ndarray:
    """The array with its axes in this order, contiguous in memory."""
    if isinstance(axes, SideTurn):
        order = np.arange(len(x)).reshape(axes.lengths).transpose(axes.axes).ravel()
        return x[np.ix_(order, order)]
    if isinstance(axes, SlicesTurn):
        lists = np.split(x, np.cumsum(axes.lengths)[:-1])
        return np.concatenate([lists[axis] for axis in axes.axes])
    return np.ascontiguousarray(np.transpose(x, tuple(axes)))
