"""How the learning rate of an estimator changes: scikit-learn's words for it, as schedules of the core.

| `learning_rate` | the rate of a step |
| --- | --- |
| "constant" | the optimizer's |
| "invscaling" | from the second epoch on, divided by (rows seen + 1) to the power `power_t` |
| "adaptive" | divided by 5 whenever training would stop for want of progress; training stops at 1e-6 |
| "cosine" | along half a cosine to 0 at the last of `max_iter` epochs |
| a schedule or function | what it returns for the number of steps taken before |
| `ReduceOnPlateau` | falls where an epoch's loss does, that of rows set apart if `early_stopping` does so |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import NamedTuple

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions

from scirs2_adapters.core import Adam, Rule, get, names
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.registry import plain
from scirs2_adapters.core.schedule import Schedule, rate_at
from scirs2_adapters.core.schedules import Constant, Cosine, ReduceOnPlateau, Warmup

CONSTRAINTS = {
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive", "cosine"}), callable],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "warmup": [Interval(Integral, 0, None, closed="left"), Interval(RealNotInt, 0, 1, closed="left")],
}
#: The rate below which "adaptive" stops, and what it divides by: scikit-learn's numbers.
SMALLEST, DIVISOR = 1e-6, 5.0
_NO_TOTAL = "must not need the number of all steps, which `partial_fit` does not know"
_WAY_OUT = "Give a schedule with its number of steps: `learning_rate=schedules.Cosine(0.01, steps=10_000)`."


class Rated:
    """An estimator that says where a number that is passed as `learning_rate` belongs."""

    def _validate_params(self) -> None:
        """What scikit-learn calls before a fit."""
        refuse_number(self)
        super()._validate_params()  # type: ignore[misc]


def refuse_number(estimator: BaseEstimator) -> None:
    """Refuse a number as `learning_rate`, which says how the rate of the optimizer changes."""
    rate, optimizer = estimator.learning_rate, estimator.optimizer
    if not isinstance(rate, Real) or isinstance(rate, bool):
        return
    named = get(optimizer) if isinstance(optimizer, str) and plain(optimizer) in names() else Adam
    rule = type(optimizer) if isinstance(optimizer, Rule) else named
    way_out = f"Give the number to the optimizer: `optimizer={rule.__name__}(learning_rate={rate})`."
    if hasattr(estimator, "learning_rate_init") and not isinstance(optimizer, Rule):
        way_out = f"Write `learning_rate_init={rate}`."
    worded = (
        'must be "constant", "invscaling", "adaptive", "cosine" or a schedule: it says how the learning rate changes'
    )
    raise bad_value(type(estimator).__name__, "learning_rate", worded, rate, way_out)


class Course(NamedTuple):
    """The learning rates of one fit: a schedule, if they change within an epoch, and what happens between epochs."""

    kind: str = "constant"
    power_t: float = 0.5
    schedule: Callable[[int], float] | None = None

    def after(self, loss: float) -> Course:
        """The course that goes on after an epoch of this loss."""
        return self._replace(schedule=self.schedule.after(loss)) if isinstance(self.schedule, Schedule) else self

    def resumed(self, before: Course) -> Course:
        """This course, continued where the losses have led an earlier one, if that is the same course."""
        mine, other = self.schedule, before.schedule
        same = isinstance(mine, Schedule) and isinstance(other, Schedule) and mine.begun() == other.begun()
        return self._replace(schedule=other) if same else self


def course(estimator: BaseEstimator, rule: Rule, rows: int, partial: bool) -> Course:
    """The course that an estimator's parameters ask for, for a fit on this many rows. Impossible ones are refused."""
    call, word, warmup = type(estimator).__name__, estimator.learning_rate, estimator.warmup
    whole = word == "cosine" or (isinstance(warmup, float) and warmup > 0)
    if partial and whole:
        name, value = ("learning_rate", word) if word == "cosine" else ("warmup", warmup)
        raise bad_value(call, name, _NO_TOTAL, value, _WAY_OUT)
    if callable(word):
        rate_at(call, word, 0)
        if getattr(estimator, "learning_rate_init", None) is not None:
            worded = "must be None beside a schedule, which says the learning rate"
            raise bad_value(call, "learning_rate_init", worded, estimator.learning_rate_init)
    if isinstance(word, ReduceOnPlateau) and word.mode != "min":
        worded = "must have the mode 'min', as what it is given is the loss of an epoch"
        raise bad_value(call, "learning_rate", worded, word)
    total = _steps(estimator, rows) if whole else 0
    steps = int(warmup * total) if isinstance(warmup, float) else int(warmup)
    kind = "function" if callable(word) else word
    return Course(kind, estimator.power_t, _schedule(word, rule.learning_rate, steps, total))


def _schedule(
    word: str | Callable[[int], float], rate: float, warmup: int, total: int
) -> Callable[[int], float] | None:
    """A warm-up begins above 0, so that no step is lost: at a share 1 / (steps + 1) of the rate."""
    schedule = word if callable(word) else Cosine(rate, max(1, total - warmup)) if word == "cosine" else Constant(rate)
    if warmup:
        return Warmup(schedule, warmup, float(schedule(0)) / (warmup + 1))
    return None if isinstance(schedule, Constant) and not callable(word) else schedule


def _steps(estimator: BaseEstimator, rows: int) -> int:
    """The steps of `max_iter` epochs."""
    if estimator.early_stopping:
        rows -= math.ceil(estimator.validation_fraction * rows)
    size = estimator._auto_batch(rows) if estimator.batch_size == "auto" else estimator.batch_size
    return int(estimator.max_iter) * math.ceil(rows / max(1, min(size, rows)))
