"""Values of hyperparameters, found by search, with which one run's formula makes the step that the other run has made.

Where the other run does not say its hyperparameters, as optax's do not, no list has them. Each number among a rule's
fields is looked for alone. One that makes some quantities of the step (a slot, the parameters) and not all stays, and
the next one is looked for beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from scirs2_adapters.core.rule import Rule

from .variants import Variant

#: How far a rule with these changes is from the other run's step, by quantity, as a multiple of what is allowed; None
#: where that cannot be told.
Misses = Callable[[Sequence[Variant]], dict[str, float] | None]
#: As many fields may be otherwise, and so often a value is bettered.
_MOST, _TIMES = 3, 40
#: Powers of ten of the values that are tried: of a number, and of what a fraction lacks to 1.
_NUMBERS, _LACKS = np.linspace(-12, 1, 40), np.linspace(-6, -0.05, 19)


def fitted(rule: Rule, misses: Misses) -> list[tuple[Variant, ...]]:
    """The changes of values that make the step: of one field, of each that can, or else of a few together."""
    found: tuple[Variant, ...] = ()
    before = misses(())
    while before and len(found) < _MOST:
        made: list[tuple[int, Variant, dict[str, float]]] = []
        for one in _each(rule, found, before, misses):
            after = misses((*found, one))
            if after is not None:
                made.append((sum(times <= 1 for times in after.values()), one, after))
        if whole := [one for count, one, after in made if count == len(after)]:
            return [(*found, one) for one in whole]
        count, one, after = max(made, key=lambda made: made[0], default=(0, Variant(""), {}))
        if count <= sum(times <= 1 for times in before.values()):
            return []
        found, before = (*found, one), after
    return []


def _each(rule: Rule, found: Sequence[Variant], before: dict[str, float], misses: Misses) -> Iterator[Variant]:
    """For each field and each quantity that is missed, the value that comes nearest."""
    taken = {name for one in found for name in one.values}
    for name, field in rule.fields.items():
        now = getattr(rule, name)
        if name in taken or field.kind is not float or field.static or not isinstance(now, (int, float)):
            continue
        values = _tried(field.accepts)
        rows = [misses((*found, _variant(name, value, now))) or {} for value in values]
        for quantity, times in before.items():
            row = [each.get(quantity, math.inf) for each in rows]
            at = int(np.argmin(row)) if row else 0
            if times > 1 and row and row[at] < 0.9 * times:
                yield _nearest(name, now, values[max(at - 1, 0) : at + 2], found, quantity, misses)


def _tried(accepts: Callable[[float], bool]) -> list[float]:
    """The values of a field that are tried first."""
    fraction = accepts(0.5) and not accepts(1.5)
    values = [0.0, *(1 - 10 ** _LACKS[::-1] if fraction else 10**_NUMBERS)]
    return [float(value) for value in values if accepts(float(value))]


def _variant(name: str, value: float, now: float) -> Variant:
    return Variant(f"has {name}={value:.6g}, where the other has {now:.6g} (found by search)", {name: value})


def _nearest(
    name: str, now: float, around: Sequence[float], found: Sequence[Variant], quantity: str, misses: Misses
) -> Variant:  # fmt: skip
    """The value between the outer ones that comes nearest: the roundest one that makes the quantity, if any does."""

    def times(value: float) -> float:
        return (misses((*found, _variant(name, value, now))) or {}).get(quantity, math.inf)

    low, high = around[0], around[-1]
    part = (math.sqrt(5) - 1) / 2
    for _ in range(_TIMES):
        left, right = high - part * (high - low), low + part * (high - low)
        low, high = (low, right) if times(left) <= times(right) else (left, high)
    best = (low + high) / 2
    short = 1 - best if best > 0.5 and around[-1] < 1 else best
    for digits in range(1, 6):
        value = float(f"{short:.{digits - 1}e}")
        value = 1 - value if short != best else value
        if times(value) <= 1:
            return _variant(name, value, now)
    return _variant(name, best, now)
