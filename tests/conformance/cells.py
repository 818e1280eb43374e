"""The table: rule x adapter x path x dtype, what each cell may be off by, and the cells that cannot be, with reasons.

Every cell is held to one oracle: the core in plain numpy, in float64, with parameters and memory rounded to their
dtype after each step. A cell's distance is the largest error of any parameter or slot at any step, relative to the
largest value of that parameter or slot.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

import scirs2_adapters
from scirs2_adapters.core import Rule
from scirs2_adapters.core.program.recorded import Node, record
from scirs2_adapters.core.random_numbers import noise
from scirs2_adapters.core.registry import with_value
from scirs2_adapters.core.slices import largest, plus_least
from scirs2_adapters.core.slots import Extent, Leaf

from .drivers import driver, drivers
from .drivers.core import Oracle
from .options import Hyper, brisk, small, turned
from .problem import DTYPES, EPSILON, LEAVES, problem
from .walk import History, values, walk

PATHS = ("host", "traced")

#: Arithmetic of 16-bit parameters is float32, so only a rounding that fell on the other side can differ, by one unit
#: each time.
TOLERANCES = {"float64": 1e-12, "float32": 16 * EPSILON["float32"]}
TOLERANCES |= {dtype: 2 * EPSILON[dtype] for dtype in ("bfloat16", "float16")}
#: And few of them do: rounding after every operation, not once, changes far more than this part of all numbers.
FLIPPED = {"bfloat16": 0.1, "float16": 0.1}


@dataclass(frozen=True)
class Cell:
    """One place of the table."""

    rule: str
    adapter: str
    path: str
    dtype: str

    def __str__(self) -> str:
        return "-".join((self.rule, self.adapter, self.path, self.dtype))


@dataclass(frozen=True)
class Gap:
    """Cells that cannot be: "a|b" stands for either, "*" for any; `reason` is for people, and trying must raise.

    Rules are not named, but described by what `concerns` them.
    """

    adapter: str
    path: str
    dtype: str
    reason: str
    concerns: Callable[[str], bool] = lambda rule: True

    def covers(self, cell: Cell) -> bool:
        """Whether the cell is one of these."""
        stated = {name: getattr(self, name).split("|") for name in ("adapter", "path", "dtype")}
        places = ("*" in allowed or getattr(cell, name) in allowed for name, allowed in stated.items())
        return all(places) and self.concerns(cell.rule)


def by_rows(rule: str, hyper: Hyper | None = None) -> bool:
    """Whether a rule computes with rows, columns or whole matrices of some leaf, by its default options or these."""
    nodes = _nodes(scirs2_adapters.get(rule)(**hyper or {}))
    return any(node.op == "matrix" or node.extent in (Extent.ROW, Extent.COLUMN, Extent.BATCH) for node in nodes)


def _nodes(made: Rule) -> list[Node]:
    """Those of the formula of each leaf."""
    return [node for leaf in map(Leaf, LEAVES.values()) for node in record(made.route(leaf), leaf).nodes]


def matrix_functions(rule: str) -> set[Callable[..., object]]:
    """The functions of matrices that a rule calls by the options that a cell runs."""
    cls = scirs2_adapters.get(rule)
    return {node.static[0] for node in _nodes(cls(**small(cls))) if node.op == "matrix"}


def by_library(rule: str) -> bool:
    """Whether some of them have last bits that depend on the library that multiplies or sums."""
    return bool(matrix_functions(rule) - {noise, largest, plus_least})


def cells_by_rows(rule: str) -> bool:
    """The same by the options that a cell runs."""
    return by_rows(rule, small(scirs2_adapters.get(rule)))


def only_rows(rule: str) -> bool:
    """Whether a rule steps rows alone and takes no dense gradient."""
    return scirs2_adapters.get(rule).sparse == "rows"


def needs_value(rule: str) -> bool:
    """Whether the step of a rule depends on the loss."""
    return bool(scirs2_adapters.get(rule).needs_value)


GAPS = (
    Gap("hf|tf", "*", "*", "neither Keras nor the Trainer hands the loss to an optimizer", needs_value),
    Gap("hf", "*", "*", "the models of a Trainer have dense gradients, which the rule does not take", only_rows),
    Gap("jax", "host", "*", "the adapter leaves to XLA what works on rows, columns or whole matrices", cells_by_rows),
    Gap(
        "tf",
        "host",
        "*",
        "the adapter leaves to TensorFlow what works on rows, columns or whole matrices",
        cells_by_rows,
    ),
    Gap("tf", "host", "*", "the adapter leaves to TensorFlow what steps rows alone", only_rows),
    Gap("sklearn", "traced", "*", "scikit-learn has numpy arrays only, which the host kernel steps wherever it runs"),
    Gap(
        "sklearn",
        "*",
        "bfloat16|float16",
        "scikit-learn trains in float32 and float64 and converts the rest",
    ),
)


def table() -> list[Cell]:
    """Every cell, the gaps among them."""
    rules = (*scirs2_adapters.names(), *with_value())
    return list(itertools.starmap(Cell, itertools.product(rules, drivers(), PATHS, DTYPES)))


def gap(cell: Cell) -> Gap | None:
    """Why the cell cannot be, or None."""
    return next((g for g in GAPS if g.covers(cell)), None)


def option_rows(cell: Cell) -> list[Hyper]:
    """The options a cell runs: in float32 two sets, which between them ask for every slot that the rule may have."""
    cls = scirs2_adapters.get(cell.rule)
    return [brisk(cls), turned(cls)] if cell.dtype == "float32" else [brisk(cls)]


def history(cell: Cell, hyper: Hyper) -> History:
    """The cell's own walk."""
    task = problem(cell.dtype)
    return walk(driver(cell.adapter).Optimizer(cell.rule, hyper, cell.path, task), task)


@functools.cache
def _expected(rule: str, dtype: str) -> list[dict[str, np.ndarray]]:
    task, rows = problem(dtype), option_rows(Cell(rule, "core", "traced", dtype))
    return [values(walk(Oracle(rule, hyper, task), task)) for hyper in rows]


@functools.cache
def _magnified(rule: str, dtype: str, row: int) -> float:
    """How far the last bit of memory, lost after each step, leads the oracle: formulas that take small differences, or
    the directions of nearly equal lengths, magnify it.
    """
    hyper = option_rows(Cell(rule, "core", "traced", dtype))[row]
    task = problem(dtype)
    return distance(
        values(walk(Oracle(rule, hyper, task, EPSILON[dtype]), task)), _expected(rule, dtype)[row], dtype
    ).error


@dataclass(frozen=True)
class Distance:
    """How far a cell is from the oracle: its largest relative error, where, and the part of all numbers that differ;
    `magnified` says how far a last bit leads.
    """

    error: float
    where: str
    differing: float
    magnified: Callable[[], float] = lambda: 0.0

    def within(self, dtype: str) -> bool:
        """Whether that is within the tolerance of the dtype, or what rounding makes of it where arithmetic is that of
        memory.
        """
        near = self.error <= TOLERANCES[dtype]
        if not near and dtype not in FLIPPED:
            return self.error <= 4 * self.magnified()
        return near and self.differing <= FLIPPED.get(dtype, 1.0)


def distance(seen: dict[str, np.ndarray], expected: dict[str, np.ndarray], dtype: str) -> Distance:
    """Compares two walks value by value; a slot that one of them lacks is an error, and so is NaN, or an infinity that
    one of them lacks: steps that a dtype cannot hold are infinite in both. What memory wider than the dtype keeps, and
    the dtype does not show, is no difference.
    """
    assert seen.keys() == expected.keys(), f"slots differ: {sorted(seen.keys() ^ expected.keys())}"
    worst, where, differing, numbers = 0.0, "", 0, 0
    for name, right in expected.items():
        assert seen[name].shape == right.shape, f"{name}: shape {seen[name].shape[1:]}, not {right.shape[1:]}"
        off = np.abs(np.subtract(seen[name], right, where=seen[name] != right, out=np.zeros_like(right)))
        size = np.max(np.abs(right), initial=np.finfo(float).tiny, where=np.isfinite(right))
        error = float(np.max(off, initial=0.0) / size)
        if not error <= worst:
            worst, where = error, name
        differing, numbers = differing + np.count_nonzero(off > EPSILON[dtype] / 4 * np.abs(right)), numbers + off.size
    return Distance(worst, where, differing / numbers)


def measure(cell: Cell) -> list[Distance]:
    """The cell's distance from the oracle for each row of options."""
    pairs = zip(option_rows(cell), _expected(cell.rule, cell.dtype), strict=True)
    distances = [distance(values(history(cell, hyper)), expected, cell.dtype) for hyper, expected in pairs]
    return [
        replace(one, magnified=functools.partial(_magnified, cell.rule, cell.dtype, row))
        for row, one in enumerate(distances)
    ]
