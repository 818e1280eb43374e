"""The slots of a rule that do not lie as its parameter does: numbers of rows and columns, matrices of sides, lists of a
number for each slice. How they are turned, and stored otherwise, where their parameter is turned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..cpu import storage
from ..formats import BLOCK_DTYPES, blocks
from ..rule import Rule
from ..slots import EVERY, Extent, Slot
from .file import Array
from .layouts import Shape, SideTurn, SlicesTurn, Turn, side_turn, transposed, turned
from .state import ParameterState


class Lines(NamedTuple):
    """The slots that are of the rows, columns or sides of a matrix: `exchanged` says what each becomes where the matrix
    is turned, and `whole` are those of sides, which are not turned themselves. `low` are of sides where the parameter
    is projected, and like it elsewhere. `squares` are those of sides that can be put in another order, with the side.
    `slices` are lists of one number for each slice along each axis; `shape` is the parameter's, where it is known.
    """

    every: frozenset[str]
    exchanged: Mapping[str, str]
    whole: frozenset[str]
    low: frozenset[str] = frozenset()
    slices: frozenset[str] = frozenset()
    shape: Shape | None = None
    squares: Mapping[str, int] = {}

    def shape_of(self, p: ParameterState) -> Shape | None:
        """A parameter's shape: what is said of it, or what its arrays span; None of a complex one, which stays, and
        where there are lists of numbers for slices alone, which do not say it.
        """
        if p.complex or p.shape is not None:
            return None if p.complex else p.shape
        shapes = [x.shape for slot, x in p.slots.items() if not slot.endswith("_scale") and slot not in self.slices]
        axes = max(map(len, shapes), default=None)
        return None if axes is None else tuple(map(max, zip(*(s for s in shapes if len(s) == axes), strict=True)))

    def untold(self, p: ParameterState) -> bool:
        """Whether nothing says the shape of a parameter of which there are numbers for slices."""
        return p.shape is None and bool(self.slices & p.slots.keys()) and self.shape_of(p) is None

    def tell(self, *pair: ParameterState) -> bool:
        """Whether the shapes of a parameter there and here are known, or one of them and the other untold."""
        shapes = list(map(self.shape_of, pair))
        return any(shape is not None for shape in shapes) and all(
            shape is not None or self.untold(p) for p, shape in zip(pair, shapes, strict=True)
        )

    def of(self, p: ParameterState, shape: Shape | None = None) -> Lines:
        """The slots of lines of this parameter, whose shape may be known from elsewhere. Beside a basis what is low is
        a projection, whatever its shape.
        """
        beside, known = not self.whole.isdisjoint(p.slots), self.shape_of(p)
        low = {s for s in self.low if s in p.slots and (beside or p.slots[s].shape != known)}
        return self._replace(every=self.every | low, whole=self.whole | low, shape=shape if known is None else known)

    def axes(self, slot: str, x: Array, axes: Shape | None) -> Turn:
        """How a slot of a parameter that is turned so is turned itself."""
        if slot in self.slices and axes is not None:
            return SlicesTurn(self.shape or (), axes)
        if (turn := self._side_turn(slot, x, axes)) is not None and turn.axes != (0,):
            return turn
        return None if slot in self.whole or len(x.shape) < 2 else axes

    def stuck(self, slot: str, x: Array, axes: Shape | None) -> bool:
        """Whether a slot cannot be turned with its kernel: rows, columns and sides of other axes are other memory."""
        many = axes is not None and len(axes) > 2 and slot in self.every
        return many and self._side_turn(slot, x, axes) is None

    def _side_turn(self, slot: str, x: Array, axes: Shape | None) -> SideTurn | None:
        """How a square of a kernel of more than two axes is turned with it; None of anything else."""
        if slot not in self.squares or axes is None or len(axes) < 3 or self.shape is None:
            return None
        return side_turn(x.shape[0], self.squares[slot], self.shape, axes)

    def misfit(self, slot: str, x: Array, form: Array, axes: Shape | None) -> str:
        """Why an array cannot be this slot; empty if it can."""
        if self.stuck(slot, x, axes):
            return "is of rows and columns of axes that lie otherwise here"
        if x.dtype != form.dtype and not {x.dtype, form.dtype} <= storage.STORAGES.keys():
            return f"is of {x.dtype} in the file and {form.dtype} here"
        fits = turned(x.shape, self.axes(slot, x, axes)) == form.shape
        return "" if fits else f"is of shape {x.shape} in the file and {form.shape} here"


#: Of a rule that has none, or of an optimizer that is not ours.
NO_LINES = Lines(frozenset(), {}, frozenset())


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
        squares={s.name: s.side for s in slots if s.extent is Extent.SIDE and _is_free(s)},
    )


def _is_free(slot: Slot) -> bool:
    """Whether it is a square whose rows and columns can be put in another order."""
    return slot.side < 0 and not (slot.rank or slot.triangular)


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
