"""How far 1,000 steps lead away from the slow twin, and how far no implementation can help to be led.

The floor is the twin itself with parameters and memory rounded to their dtype after each step. Distances are those of
all parameters together, the largest over the walk, relative to the length of the path.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

import scirs2_adapters
from tests.reference import reference

from .cells import Cell
from .drivers import driver
from .options import Hyper, brisk, losses, resolved
from .problem import FEW, Arrays, Problem, problem, rounded
from .walk import Driver

STEPS, EVERY = 1000, 50
BOUND = {"float64": 1e-12, "float32": 1e-6}
TIMES = 4


def hyper(rule: str, dtype: str) -> Hyper:
    """The defaults at a learning rate of 1e-3; a rule whose rate is 1 finds its own and keeps it, after first steps
    that are not so small that the rounding of memory is much of them. Where growth has a limit there is none: from
    gradients that lead nowhere it would learn the errors that are made on the way.
    """
    fields = scirs2_adapters.get(rule).fields_with()
    rate, slow = fields["learning_rate"].default, {"growth_rate": 1.0} if "growth_rate" in fields else {}
    alike = {k: v for k, v in brisk(scirs2_adapters.get(rule)).items() if k != "learning_rate"} | slow
    return resolved(rule, alike if rate == 1.0 else {"learning_rate": 1e-3, **alike}, dtype)


@functools.cache
def gaussian(dtype: str) -> Problem:
    """N(0, 1) parameters and gradients."""
    return problem(dtype, STEPS, drift=0.0, names=FEW)


def _flat(step: Arrays) -> np.ndarray:
    return np.concatenate([np.ravel(x) for x in step])


@dataclass(frozen=True)
class Path:
    """The twin's path: where it is at each step, its length, and how far off it the rounding of memory leads."""

    points: list[np.ndarray]
    length: float
    floor: float

    def distance(self, step: int, params: Arrays) -> float:
        """How far these parameters are from the path after so many steps."""
        return float(np.linalg.norm(_flat(params) - self.points[step - 1])) / self.length

    def bound(self, dtype: str) -> float:
        """How far an adapter may be."""
        return max(BOUND[dtype], TIMES * self.floor)


@functools.cache
def path(rule: str, dtype: str) -> Path:
    """The path of a rule's twin."""
    start, options, twin = gaussian(dtype), hyper(rule, dtype), reference(rule)
    points = [_flat(x) for x in twin(start.params, start.grads, hyper=options, **losses(rule, start))[0]]
    length = sum(np.linalg.norm(b - a) for a, b in zip([_flat(start.params), *points], points, strict=False))
    store = lambda role, x: rounded(x, dtype)  # noqa: E731
    kept = twin(start.params, start.grads, hyper=options, store=store, **losses(rule, start))[0]
    off = max(np.linalg.norm(a - _flat(x)) for a, x in zip(points, kept, strict=True))
    return Path(points, float(length), float(off / length))


#: What was found by what was walked: two adapters that make the same object with the same settings walk once.
_drifts: dict[tuple[str | float, ...], tuple[float, int]] = {}


def drift(cell: Cell, bound: float = np.inf) -> tuple[float, int]:
    """The cell's largest distance from its twin's path, relative to the path's length, and at which step: the first one
    where it is above the bound.
    """
    made = driver(cell.adapter).Optimizer(cell.rule, hyper(cell.rule, cell.dtype), cell.path, gaussian(cell.dtype))
    settings = made.settings() if hasattr(made, "settings") else cell.adapter
    walked = (cell.rule, cell.path, cell.dtype, bound, settings)
    if walked not in _drifts:
        _drifts[walked] = _drift(made, cell, bound)
    return _drifts[walked]


def _drift(optimizer: Driver, cell: Cell, bound: float) -> tuple[float, int]:
    start, expected = gaussian(cell.dtype), path(cell.rule, cell.dtype)
    worst, step = 0.0, 0
    for t, grads in enumerate(start.grads, start=1):
        optimizer.step(grads)
        if t % EVERY == 0:
            off = expected.distance(t, optimizer.params())
            if not off <= worst:  # NaN stays
                worst, step = off, t
        if not worst <= bound:
            break
    return worst, step
