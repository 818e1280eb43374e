"""What a search is made of: points out, values in, and the few operations on vectors in between.

An optimizer that evaluates the model cannot be a formula that is recorded once. It is a generator: it yields a point,
is sent (loss, gradient) there, and returns when it is done. So it knows of no closure, no framework and no place where
parameters live; its caller does, and an exception from the model leaves the search where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..errors import ArgumentTypeError, bad_type

Vector = Any
Result = TypeVar("Result")
#: Yields points, is sent (loss, gradient) of each, returns what the step comes to.
Search = Generator[Vector, tuple[float, Vector], Result]


@dataclass(frozen=True)
class Space:
    """Vectors of one framework, besides + - * by a number. Sums and maxima are plain numbers."""

    #: The inner product.
    dot: Callable[[Vector, Vector], float]
    #: The largest absolute value; 0 of an empty vector.
    largest: Callable[[Vector], float]
    #: The sum of absolute values.
    total: Callable[[Vector], float]
    #: x + c * d as a new vector.
    plus: Callable[[Vector, float, Vector], Vector]
    #: The same, written into the memory of x if the framework can do that.
    into: Callable[[Vector, float, Vector], Vector]
    #: The 2-norm, of an array of any shape.
    norm: Callable[[Vector], float]
    #: Absolute values.
    abs: Callable[[Vector], Vector]
    #: The distance from 1 to the next number of its dtype.
    epsilon: Callable[[Vector], float]


def _into(x: Vector, c: float, d: Vector) -> Vector:
    x += c * d
    return x


NUMPY = Space(
    dot=lambda a, b: float(np.vdot(a, b)),
    largest=lambda a: float(np.max(np.abs(a), initial=0.0)),
    total=lambda a: float(np.sum(np.abs(a))),
    plus=lambda x, c, d: x + c * d,
    into=_into,
    norm=lambda a: float(np.linalg.norm(a.ravel())),
    abs=np.abs,
    epsilon=lambda a: float(np.finfo(a.dtype).eps),
)


def drive(search: Search[Result], evaluate: Callable[[Vector], tuple[float, Vector]]) -> Result:
    """Runs a search, whose points `evaluate` answers, and returns its result. No answer is kept alive here."""
    try:
        point = next(search)
        while True:
            try:
                answer = [evaluate(point)]
            except StopIteration as error:  # an empty iterator in the model would look like the end of the search
                raise RuntimeError("The closure has raised StopIteration.") from error
            point = search.send(answer.pop())
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        search.close()


def check_closure(call: str, closure: Any, returns: str, way_out: str = "") -> Callable[[], Any]:
    """The closure; a step without one is refused."""
    if not callable(closure):
        worded = f"must be a function that {returns}: this optimizer evaluates the model inside its step"
        raise bad_type(f"{call}.step", "closure", worded, closure, f"Write `optimizer.step(closure)`{way_out}.")
    return closure  # type: ignore[no-any-return]


def needs_closure(name: str) -> ArgumentTypeError:
    """The error where a gradient alone is to be the step."""
    return ArgumentTypeError(
        f"`{name}` evaluates the model inside its step, so a gradient alone cannot step it. "
        f"Use `scirs2_adapters.torch.{name}`, or for numpy `scirs2_adapters.core.ClosureOptimizer`: `step(closure)`."
    )


def divide(a: float, b: float) -> float:
    """a / b as arrays have it: by zero it is infinite or NaN, and no error."""
    with np.errstate(all="ignore"):
        return float(np.divide(a, b))


def is_finite(*values: float) -> bool:
    return all(map(math.isfinite, values))
