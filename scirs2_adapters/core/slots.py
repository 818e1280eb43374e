"""What a rule remembers of a parameter, and the parameter it remembers it of.

Slots are declared where they are used: in the signature of a rule's `update`, before the `/`. A bare name is an array
like the parameter, zero at first; an annotation made by one of the functions below says anything else.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Kind(enum.IntEnum):
    """How far a value extends: over the model, one tensor, or the last two axes of it. Rows are (..., n, 1), columns
    (..., 1, m).
    """

    MODEL = 0
    TENSOR = 1
    BATCH = 2
    ROW = 3
    COLUMN = 4
    FULL = 5

    def join(self, other: Kind) -> Kind:
        """The extent of a result computed from both, by broadcasting."""
        return Kind.FULL if {self, other} == {Kind.ROW, Kind.COLUMN} else max(self, other)


@dataclass(frozen=True)
class Slot:
    """One piece of memory: its extent, the field or method of the rule that asks for it, and its first value.

    `initial` is None for zeros, "parameter" for a copy of the parameter, else a number or the field that holds it.
    """

    kind: Kind = Kind.FULL
    when: str | None = None
    initial: str | float | None = None
    name: str = ""

    def first(self, rule: Any) -> Any:
        """The number in all of it before the first step; 0 for a copy, which the room makes."""
        return getattr(rule, self.initial or "", 0.0) if not isinstance(self.initial, float) else self.initial

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The slot's shape for a parameter of this shape."""
        match self.kind:
            case Kind.FULL:
                return shape
            case Kind.ROW:
                return (*shape[:-1], 1)
            case Kind.COLUMN:
                return (*shape[:-2], 1, shape[-1])
            case _:
                return ()


#: Machine epsilon of the parameter dtypes.
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@dataclass(frozen=True)
class Leaf:
    """One parameter as a rule sees it. `name` is the path the framework gives it, or empty."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str = ""


def slot(when: str | None = None, initial: str | None = None) -> Slot:
    """A slot like the parameter that exists only when the field or method `when` of the rule says so, and is full of
    the value of the field `initial` at first.
    """
    return Slot(when=when, initial=initial)


def scalar(initial: float = 0.0, when: str | None = None) -> Slot:
    """One number for each parameter, which follows from numbers alone and not from arrays."""
    return Slot(Kind.TENSOR, when, initial)


def row(when: str | None = None) -> Slot:
    """One number for each row of the last two axes: shape (..., n, 1)."""
    return Slot(Kind.ROW, when)


def column(when: str | None = None) -> Slot:
    """One number for each column of the last two axes: shape (..., 1, m)."""
    return Slot(Kind.COLUMN, when)


def model(initial: str | None = None) -> Slot:
    """One number for all parameters together, first 0 or the value of the field `initial`."""
    return Slot(Kind.MODEL, None, initial)


#: A copy of the parameter as it was before the first step.
COPY = Slot(initial="parameter")
