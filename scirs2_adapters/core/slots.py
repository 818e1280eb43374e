"""What a rule remembers of a parameter, and the parameter it remembers it of.

Slots are declared where they are used: in the signature of a rule's `update`, before the `/`. A bare name is an array
like the parameter, zero at first; an annotation made by one of the functions below says anything else.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from .fields import Value
from .formats import BLOCK
from .matrix import OUTPUTS_FIRST, Axes, Axis, Matrix, each, last_of

LAST: Axes = (-2, -1)
#: In place of one side of a matrix: all axes of a parameter, however many there are.
EVERY = 1


class Extent(enum.IntEnum):
    """How far a value extends: over the model, over a tensor, or over all of its axes but one or two. Of the two that a
    rule looks along, a row lacks the later one and a column the earlier one: (..., n, 1) and (..., 1, m). Or over one
    side of a matrix and an axis that is no axis of the parameter's: SIDE, a square (n, n) or a basis (n, rank), or a
    list of the slices along every axis, (n + m + ...,); and LOW, the projection of a parameter onto the basis of the
    other side, (m, rank).
    """

    MODEL = 0
    TENSOR = 1
    BATCH = 2
    ROW = 3
    COLUMN = 4
    FULL = 5
    SIDE = 6
    LOW = 7

    def join(self, other: Extent) -> Extent:
        """The extent of a result computed from both, by broadcasting."""
        return Extent.FULL if {self, other} == {Extent.ROW, Extent.COLUMN} else max(self, other)

    @classmethod
    def without(cls, axis: Axis, axes: Axes) -> Extent:
        """The extent of a mean over one of two axes."""
        return cls.ROW if axis == max(axes, key=last_of) else cls.COLUMN


@dataclass(frozen=True)
class Slot:
    """One piece of memory: its extent, the field or method of the rule that asks for it, and its first value.

    `initial` is None for zeros, "parameter" for a copy of the parameter, else a number or the field that holds it.
    `axis`, counted from the end, is the one that a row or a column lacks. `block_dtype` is how its numbers are coded
    where 8 bits each are asked for: "int8" with a sign, "uint8" where none is negative, None for a slot that would
    lose what it is for, as it does if the field `wide_if` of the rule says so. An `accurate` one is of at least 32
    bits: an average moves by less than what 16 bits round away, and a divisor must not become 0. `side` is that of
    the matrix along which it lies, -2 for the one that lies first and -1 for the other, and `axes` are its axes; its
    other axis is as long, of length `rank`, or of a `share` of that length. A `side` of EVERY is a list of slices,
    along one axis after another. A `triangular` matrix is one only while its rows keep their order. A `count` is a
    field that says how many slots this one stands for; a formula gets a tuple of them.
    """

    extent: Extent = Extent.FULL
    present_if: str | None = None
    initial: str | float | None = None
    name: str = ""
    axis: int = 0
    block_dtype: str | None = "int8"
    wide_if: str | None = None
    accurate: bool = False
    side: int = 0
    axes: tuple[int, ...] = ()
    rank: int = 0
    share: float = 0.0
    count: str = ""
    triangular: bool = False

    def names(self, rule: object) -> list[str]:
        """Its name, or those of the slots that it stands for: `r_1`, `r_2` and so on."""
        return [f"{self.name}_{i + 1}" for i in range(getattr(rule, self.count))] if self.count else [self.name]

    def initial_value(self, rule: object) -> Value:
        """The number in all of it before the first step; 0 for a copy, which the adapter makes."""
        return getattr(rule, self.initial, 0.0) if isinstance(self.initial, str) else self.initial or 0.0

    @property
    def may_be_blocks(self) -> bool:
        """Whether 8 bits a number can hold it, of some parameter if it may be like a projection and may be not."""
        return self.extent in (Extent.FULL, Extent.LOW) and not self.rank and self.block_dtype is not None

    def along(self, axes: Axes, matrix: Matrix | None) -> Self:
        """The slot where a row is what lies along the second of these axes, and a column along the first; where the
        sides of a matrix are those of `matrix`, or the last two axes. What is like a projection is like the parameter
        where there is none.
        """
        if self.extent in (Extent.SIDE, Extent.LOW):
            return self._of_side(matrix)
        gone = axes[self.axis] if self.axis else 0
        return replace(self, axis=gone, extent=Extent.without(gone, axes)) if isinstance(gone, int) and gone else self

    def _of_side(self, matrix: Matrix | None) -> Self:
        if self.side == EVERY:
            return self
        sides = ((-2,), (-1,)) if matrix is None else sorted((matrix.inputs, matrix.outputs))
        if self.side:
            return replace(self, axes=sides[self.side])
        if matrix is None or not matrix.projected:
            return replace(self, extent=Extent.FULL)
        side = matrix.projected if self.extent is Extent.SIDE else matrix.kept
        return replace(self, side=side, axes=sides[side], rank=matrix.rank, share=matrix.share)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The slot's shape for a parameter of this shape."""
        if self.side == EVERY:
            return (sum(shape),)
        if self.side:
            length = math.prod(shape[a] for a in self.axes)
            return length, math.ceil(self.share * length) if self.share else self.rank or length
        if self.axis:
            gone = len(shape) + self.axis
            return (*shape[:gone], 1, *shape[gone + 1 :])
        return shape if self.extent is Extent.FULL else ()


#: Machine epsilon of the parameter dtypes.
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@dataclass(frozen=True)
class Leaf:
    """One parameter as a rule sees it. `name` is the path the framework gives it, or empty; of a complex one `dtype` is
    that of its parts; `error_bits` are what its rounding error adds to it.

    `layout` is how the framework lays kernels; `matrix` says which axes are inputs and outputs, where the user has said
    so. `held` are the slots that it has already: the rule that steps it was settled when they were made. `place` is
    where it stands among all parameters of the optimizer, for a rule that is `numbered`; 0 for any other.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str = ""
    layout: str = OUTPUTS_FIRST
    matrix: Matrix | None = None
    held: frozenset[str] = frozenset()
    complex: bool = False
    error_bits: int = 0
    place: int = 0

    def holding(self, slots: Iterable[str]) -> Leaf:
        """The same parameter with these slots."""
        return replace(self, held=frozenset(slots))


def slot(
    present_if: str | None = None,
    initial: str | float | None = None,
    block_dtype: str | None = "int8",
    wide_if: str | None = None,
    accurate: bool = False,
) -> Slot:
    """A slot like the parameter that exists only when the structural field or the method `present_if` of the rule says
    so, and is full of the number `initial`, or of the value of the field of that name, at first; `block_dtype`,
    `wide_if` and `accurate` as `Slot` has them.
    """
    return Slot(present_if=present_if, initial=initial, block_dtype=block_dtype, wide_if=wide_if, accurate=accurate)


def scalar(initial: float = 0.0, present_if: str | None = None) -> Slot:
    """One number for each parameter."""
    return Slot(Extent.TENSOR, present_if, initial)


def row(present_if: str | None = None) -> Slot:
    """One number for each row of the rule's two axes, by default the last ones: shape (..., n, 1)."""
    return Slot(Extent.ROW, present_if, axis=-1)


def column(present_if: str | None = None) -> Slot:
    """One number for each column of the rule's two axes, by default the last ones: shape (..., 1, m)."""
    return Slot(Extent.COLUMN, present_if, axis=-2)


def square(side: int, present_if: str | None = None, *, triangular: bool = False) -> Slot:
    """A square matrix of one side of the parameter's matrix, which only functions of matrices take: of the side that
    lies first, -2, or of the other, -1. Say of a `triangular` one that it is: its rows cannot be put in another order.
    """
    return Slot(Extent.SIDE, present_if, side=side, triangular=triangular)


def diagonal(side: int, present_if: str) -> Slot:
    """The diagonal of a square matrix of one side, -2 or -1, as a matrix of one column, (n, 1), which only functions of
    matrices take.
    """
    return Slot(Extent.SIDE, present_if, side=side, rank=1)


def basis(present_if: str) -> Slot:
    """The directions onto which the rule's `view` projects a parameter, as columns, which only functions of matrices
    take: (n, rank). The method `present_if` of the rule says whether there are any.
    """
    return Slot(Extent.SIDE, present_if)


def slices(present_if: str | None = None) -> Slot:
    """One number for each slice of the parameter along each of its axes, in one list that only functions of matrices
    take: for every row and then for every column of a matrix, (n + m,).
    """
    return Slot(Extent.SIDE, present_if, side=EVERY)


def low(block_dtype: str | None = "int8") -> Slot:
    """A slot like the projection of the parameter, (m, rank), of which formulas compute element by element; like the
    parameter where the rule's `view` projects none.
    """
    return Slot(Extent.LOW, block_dtype=block_dtype)


def model(initial: str | None = None, count: str = "") -> Slot:
    """One number for all parameters together, first 0 or the value of the field `initial`; or a tuple of as many as the
    field `count` says.
    """
    return Slot(Extent.MODEL, None, initial, count=count)


def each_of(rule: object, declared: Iterable[Slot]) -> tuple[Slot, ...]:
    """The slots of a rule, each for itself, from those that its formula declares."""
    return tuple(replace(s, name=name, count="") for s in declared for name in s.names(rule))


#: A copy of the parameter as it was before the first step.
COPY = Slot(initial="parameter")
#: An average of the parameter over many steps.
AVERAGE = Slot(initial="parameter", block_dtype=None, accurate=True)
#: Squares, or other numbers of which none is negative.
NONNEGATIVE = Slot(block_dtype="uint8")


def without_blocks(slots: tuple[Slot, ...], shape: tuple[int, ...], view: Matrix | None = None) -> tuple[Slot, ...]:
    """The slots of a rule that looks along the rows of matrices, by slots or by means over them as this view has them,
    where blocks would reach from one matrix into the next, which other threads may be stepping.
    """
    lines = view.lines if view and view.inputs else LAST if any(s.axis for s in slots) else ()
    matrix = math.prod(shape[a] for a in each(*lines) if -a <= len(shape))
    if not lines or math.prod(shape) == matrix or matrix % BLOCK == 0:
        return slots
    return tuple(replace(s, block_dtype=None) for s in slots)
