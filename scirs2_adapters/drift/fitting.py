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
#: As many numbers may be otherwise, and so often a value is bettered.
_MOST, _TIMES = 3, 30
#: Powers of ten of the values that are tried: of a number, of what a fraction lacks to 1, and of a factor.
_NUMBERS, _LACKS, _FACTORS = np.linspace(-12, 1, 40), np.linspace(-6, -0.05, 19), np.linspace(-6, 6, 37)


class Dial(NamedTuple):
    """A number that may be otherwise: the values that are tried first, the change that a value is, and what it is
    multiplied by to be a number that somebody has written.
    """

    values: list[float]
    change: Callable[[float], Variant]
    unit: float = 1.0


def fitted(rule: Rule, misses: Misses, norm: float) -> list[tuple[Variant, ...]]:
    """The changes of values that make the step: of one number, of each that can, or else of a few together. `norm` is
    that of the gradients.
    """
    left, changes = [*_dials(rule)], tuple[Variant, ...]()
    before, now = misses(()), [*left, _factor(norm)]
    while before and len(changes) < _MOST:
        trials: list[tuple[int, Dial, Variant, dict[str, float]]] = []
        for dial, one in _each(now, changes, before, misses):
            after = misses((*changes, one)) or before
            trials.append((sum(times <= 1 for times in after.values()), dial, one, after))
        if whole := [one for count, _, one, after in trials if count == len(after)]:
            return [(*changes, one) for one in whole]
        trials = [each for each in trials if each[1] in left]
        count, dial, one, after = max(trials, key=lambda each: each[0], default=(0, left[0], Variant(""), before))
        if count <= sum(times <= 1 for times in before.values()):
            return []
        changes, before = (*changes, one), after
        left = now = [other for other in left if other is not dial]
    return []


def _dials(rule: Rule) -> Iterator[Dial]:
    """Each number among the rule's fields."""
    for name, field in rule.fields.items():
        now = getattr(rule, name)
        if field.kind is float and not field.static and isinstance(now, (int, float)):
            yield Dial(_tried(field.accepts), functools.partial(_value, name, now))


def _value(name: str, now: float, value: float) -> Variant:
    return Variant(f"has {name}={value:.6g}, where the other has {now:.6g} (found by search)", {name: value})


def _factor(norm: float) -> Dial:
    """What the gradient may be multiplied by."""

    def change(value: float) -> Variant:
        seen = f"sees {value:.6g} times the gradient, of norm {value * norm:.6g}"
        return Variant(f"{seen}: it is clipped by norm or scaled in the optimizer", scale=value)

    return Dial([float(x) for x in 10**_FACTORS], change, norm or 1.0)


def _tried(accepts: Callable[[float], bool]) -> list[float]:
    """The values of a field that are tried first."""
    fraction = accepts(0.5) and not accepts(1.5)
    values = [0.0, *(1 - 10 ** _LACKS[::-1] if fraction else 10**_NUMBERS)]
    return [float(value) for value in values if accepts(float(value))]


def _each(
    dials: Sequence[Dial], changes: Sequence[Variant], before: dict[str, float], misses: Misses
) -> Iterator[tuple[Dial, Variant]]:  # fmt: skip
    """For each number and each quantity that is missed, the value that comes nearest."""
    for dial in dials:
        rows = [misses((*changes, dial.change(value))) or {} for value in dial.values]
        for quantity, times in before.items():
            row = [each.get(quantity, math.inf) for each in rows]
            at = int(np.argmin(row)) if row else 0
            if times > 1 and row and row[at] < 0.9 * times:
                around = dial.values[max(at - 1, 0) : at + 2]
                yield dial, _nearest(dial, around, changes, quantity, misses)


def _nearest(dial: Dial, around: Sequence[float], changes: Sequence[Variant], quantity: str, misses: Misses) -> Variant:
    """The value between the outer ones that comes nearest: the roundest one that makes the quantity, if any does."""

    def times(value: float) -> float:
        return (misses((*changes, dial.change(value))) or {}).get(quantity, math.inf)

    low, high = around[0], around[-1]
    part = (math.sqrt(5) - 1) / 2
    for _ in range(_TIMES):
        left, right = high - part * (high - low), low + part * (high - low)
        low, high = (low, right) if times(left) <= times(right) else (left, high)
    best = (low + high) / 2
    lacks = 0.5 < best < 1 and dial.unit == 1
    short = 1 - best if lacks else best * dial.unit
    for digits in range(1, 6):
        value = float(f"{short:.{digits - 1}e}")
        value = float(f"{1 - value:.12g}") if lacks else value / dial.unit
        if times(value) <= 1:
            return dial.change(value)
    return dial.change(best)
