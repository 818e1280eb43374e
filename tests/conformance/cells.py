"""The table: rule x room x path x dtype, what each cell may be off by, and the cells that cannot be, with reasons.

Every cell is held to one oracle: the core in plain numpy, in float64, with parameters and memory rounded to their
dtype after each step. A cell's distance is the largest error of any parameter or slot at any step, relative to the
largest value of that parameter or slot.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, fields

import numpy as np

import scirs2_adapters

from .drivers import driver, drivers
from .drivers.core import Oracle
from .options import Hyper, brisk, turned
from .problem import DTYPES, EPSILON, problem
from .walk import History, values, walk

PATHS = ("host", "traced")

#: Arithmetic of 16-bit parameters is float32, so only a rounding that fell on the other side can differ: by one unit.
TOLERANCES = {"float64": 1e-12, "float32": 16 * EPSILON["float32"]} | {d: EPSILON[d] for d in ("bfloat16", "float16")}
#: And few of them do: rounding after every operation, not once, changes far more than this part of all numbers.
FLIPPED = {"bfloat16": 0.03, "float16": 0.03}


@dataclass(frozen=True)
class Cell:
    """One place of the table."""

    rule: str
    room: str
    path: str
    dtype: str

    def __str__(self) -> str:
        return "-".join((self.rule, self.room, self.path, self.dtype))


@dataclass(frozen=True)
class Gap:
    """Cells that cannot be, "*" standing for any; `reason` is for people, and trying must raise."""

    room: str
    path: str
    dtype: str
    reason: str

    def covers(self, cell: Cell) -> bool:
        """Whether the cell is one of these."""
        return all(getattr(self, f.name) in ("*", getattr(cell, f.name)) for f in fields(self) if f.name != "reason")


GAPS: tuple[Gap, ...] = ()


def table() -> list[Cell]:
    """Every cell, the gaps among them."""
    return list(itertools.starmap(Cell, itertools.product(scirs2_adapters.names(), drivers(), PATHS, DTYPES)))


def gap(cell: Cell) -> Gap | None:
    """Why the cell cannot be, or None."""
    return next((g for g in GAPS if g.covers(cell)), None)


def option_rows(rule: str) -> tuple[Hyper, Hyper]:
    """The two sets of options that every cell runs: between them, every slot that the rule may have."""
    cls = scirs2_adapters.get(rule)
    return brisk(cls), turned(cls)


def history(cell: Cell, hyper: Hyper) -> History:
    """The cell's own walk."""
    given = problem(cell.dtype)
    return walk(driver(cell.room).Optimizer(cell.rule, hyper, cell.path, given), given)


@functools.cache
def _expected(rule: str, dtype: str, row: int) -> dict[str, np.ndarray]:
    given = problem(dtype)
    return values(walk(Oracle(rule, option_rows(rule)[row], given), given))


@dataclass(frozen=True)
class Distance:
    """How far a cell is from the oracle: its largest relative error, where, and the part of all numbers that differ."""

    error: float
    where: str
    differing: float

    def within(self, dtype: str) -> bool:
        """Whether that is within the tolerance of the dtype."""
        return self.error <= TOLERANCES[dtype] and self.differing <= FLIPPED.get(dtype, 1.0)


def distance(seen: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> Distance:
    """Compares two walks value by value; a slot that one of them lacks is an error, and so is NaN."""
    assert seen.keys() == expected.keys(), f"slots differ: {sorted(seen.keys() ^ expected.keys())}"
    worst, where, differing, numbers = 0.0, "", 0, 0
    for name, right in expected.items():
        assert seen[name].shape == right.shape, f"{name}: shape {seen[name].shape[1:]}, not {right.shape[1:]}"
        off = np.abs(seen[name] - right)
        error = float(np.max(off, initial=0.0) / max(np.max(np.abs(right), initial=0.0), np.finfo(float).tiny))
        if not error <= worst:
            worst, where = error, name
        differing, numbers = differing + np.count_nonzero(off), numbers + off.size
    return Distance(worst, where, differing / numbers)


def measure(cell: Cell) -> list[Distance]:
    """The cell's distance from the oracle for each row of options."""
    return [
        distance(values(history(cell, hyper)), _expected(cell.rule, cell.dtype, row))
        for row, hyper in enumerate(option_rows(cell.rule))
    ]
