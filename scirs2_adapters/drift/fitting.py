"""Values of hyperparameters, found by search, with which one run's formula makes the step that the other run has made.

Where the other run does not say its hyperparameters, as optax's do not, no list has them. Each number among a rule's
fields is looked for alone. One that makes some quantities of the step (a slot, the parameters) and not all stays, and
the next one is looked for beside it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from scirs2_adapters.core.rule import Rule

from .variants import Variant

#: How far a rule with these changes is from the other run's step, by quantity, as a multiple of what is allowed; None
#: where that cannot be told.
Misses = Callable[[Sequence[Variant]], dict[str, float] | None]
#: How many hyperparameters may differ at once, and the number of steps of a golden-section search.
_MOST, _TIMES = 3, 30
#: Exponents of ten of the values that are tried: of a number, of 1 minus a fraction, and of a factor.
_NUMBERS, _LACKS, _FACTORS = np.linspace(-12, 1, 40), np.linspace(-6, -0.05, 19), np.linspace(-6, 6, 37)


class SearchVariable(NamedTuple):
    """A number that may differ: the values that are tried first, and the variant with a value. A value times `unit` is
    what a user would have written, and is rounded as such.
    """

    values: list[float]
    change: Callable[[float], Variant]
    unit: float = 1.0


def fitted(rule: Rule, misses: Misses, norm: float) -> list[tuple[Variant, ...]]:
    """The changes of values that make the step: of one number, of each that can, or else of a few together. `norm` is
    that of the gradients.
    """
    left, changes = [*_variables(rule)], tuple[Variant, ...]()
    before, now = misses(()), [*left, _factor(norm)]
    while before and len(changes) < _MOST:
        trials: list[tuple[int, SearchVariable, Variant, dict[str, float]]] = []
        for variable, one in _each(now, changes, before, misses):
            after = misses((*changes, one)) or before
            trials.append((sum(times <= 1 for times in after.values()), variable, one, after))
        if whole := [one for count, _, one, after in trials if count == len(after)]:
            return [(*changes, one) for one in whole]
        trials = [each for each in trials if each[1] in left]
        count, variable, one, after = max(trials, key=lambda each: each[0], default=(0, left[0], Variant(""), before))
        if count <= sum(times <= 1 for times in before.values()):
            return []
        changes, before = (*changes, one), after
        left = now = [other for other in left if other is not variable]
    return []


def _variables(rule: Rule) -> Iterator[SearchVariable]:
    """Each number among the rule's fields."""
    for name, field in rule.fields.items():
        now = getattr(rule, name)
        if field.kind is float and not field.static and isinstance(now, (int, float)):
            yield SearchVariable(_tried(field.accepts), functools.partial(_value, name, now))


def _value(name: str, now: float, value: float) -> Variant:
    return Variant(f"has {name}={value:.6g}, where the other has {now:.6g} (found by search)", {name: value})


def _factor(norm: float) -> SearchVariable:
    """What the gradient may be multiplied by."""

    def change(value: float) -> Variant:
        seen = f"sees {value:.6g} times the gradient, of norm {value * norm:.6g}"
        return Variant(f"{seen}: it is clipped by norm or scaled in the optimizer", scale=value)

    return SearchVariable([float(x) for x in 10**_FACTORS], change, norm or 1.0)


def _tried(accepts: Callable[[float], bool]) -> list[float]:
    """The values of a field that are tried first."""
    fraction = accepts(0.5) and not accepts(1.5)
    values = [0.0, *(1 - 10 ** _LACKS[::-1] if fraction else 10**_NUMBERS)]
    return [float(value) for value in values if accepts(float(value))]


def _each(
    variables: Sequence[SearchVariable], changes: Sequence[Variant], before: dict[str, float], misses: Misses
) -> Iterator[tuple[SearchVariable, Variant]]:  # fmt: skip
    """For each number and each quantity that is missed, the value that comes nearest."""
    for variable in variables:
        rows = [misses((*changes, variable.change(value))) or {} for value in variable.values]
        for quantity, times in before.items():
            row = [each.get(quantity, math.inf) for each in rows]
            at = int(np.argmin(row)) if row else 0
            if times > 1 and row and row[at] < 0.9 * times:
                around = variable.values[max(at - 1, 0) : at + 2]
                yield variable, _nearest(variable, around, changes, quantity, misses)


def _nearest(
    variable: SearchVariable, around: Sequence[float], changes: Sequence[Variant], quantity: str, misses: Misses
) -> Variant:
    """The value between the outer ones that comes nearest, by golden-section search: rounded to as few digits as still
    give the quantity, if any do.
    """

    def times(value: float) -> float:
        return (misses((*changes, variable.change(value))) or {}).get(quantity, math.inf)

    low, high = around[0], around[-1]
    part = (math.sqrt(5) - 1) / 2
    for _ in range(_TIMES):
        left, right = high - part * (high - low), low + part * (high - low)
        low, high = (low, right) if times(left) <= times(right) else (left, high)
    best = (low + high) / 2
    lacks = 0.5 < best < 1 and variable.unit == 1
    short = 1 - best if lacks else best * variable.unit
    for digits in range(1, 6):
        value = float(f"{short:.{digits - 1}e}")
        value = float(f"{1 - value:.12g}") if lacks else value / variable.unit
        if times(value) <= 1:
            return variable.change(value)
    return variable.change(best)
