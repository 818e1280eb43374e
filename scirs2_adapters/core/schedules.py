"""Learning rates that change with the step count.

A schedule is a function of the number of steps that were taken before: 0 at the first. It is a value, as rules are:
frozen, comparable, picklable, and its `get_config()` can be written as JSON. `HostOptimizer(rule, params,
learning_rate=...)` and the estimators of scikit-learn take one, and any other function of the step count too. One that
depends on how training goes is another value after each metric: `schedule.after(loss)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from .errors import bad_type, bad_value
from .schedule import PARAMETERS, RATE, Schedule, as_float, from_config

__all__ = [
    "Schedule", "from_config", "Constant", "Linear", "Polynomial", "Cosine", "Exponential", "InverseSqrt", "Piecewise",
    "OneCycle", "WSD", "Warmup", "ReduceOnPlateau",
]  # fmt: skip


def _share(count: float, steps: float) -> float:
    """How much of `steps` is over, in [0, 1]."""
    return min(max(count / steps, 0.0), 1.0) if steps else 1.0


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True)
class Constant(Schedule):
    """`value` at every step."""

    value: float

    def __call__(self, count: float) -> float:
        return self.value


@dataclass(frozen=True)
class _Ramp(Schedule):
    init_value: float
    steps: int
    end_value: float = 0.0


@dataclass(frozen=True)
class Polynomial(_Ramp):
    """From `init_value` to `end_value` in `steps` steps, by (1 - count / steps) to the `power`; then `end_value`."""

    power: float = 1.0

    def __call__(self, count: float) -> float:
        rest: float = (1 - _share(count, self.steps)) ** self.power
        return self.end_value + (self.init_value - self.end_value) * rest


@dataclass(frozen=True)
class Linear(_Ramp):
    """From `init_value` to `end_value` on a straight line of `steps` steps; then `end_value`."""

    def __call__(self, count: float) -> float:
        return self.init_value + (self.end_value - self.init_value) * _share(count, self.steps)


@dataclass(frozen=True)
class Cosine(_Ramp):
    """From `init_value` to `end_value` along half a cosine of `steps` steps; then `end_value`."""

    def __call__(self, count: float) -> float:
        return _cosine(self.init_value, self.end_value, _share(count, self.steps))


@dataclass(frozen=True)
class Exponential(Schedule):
    """`init_value` times `decay_rate` to the power count / steps: times `decay_rate` in every `steps` steps."""

    init_value: float
    decay_rate: float
    steps: int = 1

    def __call__(self, count: float) -> float:
        return float(self.init_value * self.decay_rate ** (count / self.steps))


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """`init_value` / sqrt(1 + count / timescale)."""

    init_value: float
    timescale: int

    def __call__(self, count: float) -> float:
        return self.init_value / math.sqrt(1 + count / self.timescale)


@dataclass(frozen=True)
class Piecewise(Schedule):
    """`values[0]` for the first `boundaries[0]` steps, `values[1]` until `boundaries[1]`, and so on."""

    boundaries: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, field in (("boundaries", PARAMETERS["steps"]), ("values", RATE)):
            sequence = getattr(self, name)
            if not isinstance(sequence, (list, tuple)):
                raise bad_type("Piecewise", name, "must be a tuple", sequence)
            numbers = (field.check("Piecewise", f"{name}[{i}]", x) for i, x in enumerate(sequence))
            vars(self)[name] = tuple(numbers)
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise bad_value("Piecewise", "boundaries", "must increase", self.boundaries)
        if len(self.values) != len(self.boundaries) + 1:
            worded = "must have one value more than there are boundaries"
            raise bad_value("Piecewise", "values", worded, self.values)

    def __call__(self, count: float) -> float:
        return self.values[sum(count >= boundary for boundary in self.boundaries)]


@dataclass(frozen=True)
class OneCycle(Schedule):
    """From `peak_value / div_factor` up to `peak_value` in the first `pct_start` of `steps` steps, then down to
    `peak_value / div_factor / final_div_factor`, both along half a cosine.
    """

    peak_value: float
    steps: int
    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __call__(self, count: float) -> float:
        rise, start = int(self.pct_start * self.steps), self.peak_value / self.div_factor
        if count < rise:
            return _cosine(start, self.peak_value, _share(count, rise))
        return _cosine(self.peak_value, start / self.final_div_factor, _share(count - rise, self.steps - rise))


@dataclass(frozen=True)
class WSD(Schedule):
    """Warm-up, stable, decay: from 0 to `value`, then `value`, then to `end_value` in `decay_steps`: on a straight line
    ("linear"), along half a cosine ("cosine"), or by 1 - sqrt(share) ("1-sqrt").
    """

    value: float
    warmup_steps: int
    stable_steps: int
    decay_steps: int
    end_value: float = 0.0
    decay: Literal["linear", "cosine", "1-sqrt"] = "linear"

    def __call__(self, count: float) -> float:
        if count < self.warmup_steps:
            return self.value * count / self.warmup_steps
        share = _share(count - self.warmup_steps - self.stable_steps, self.decay_steps)
        rest = {"linear": 1 - share, "cosine": _cosine(1.0, 0.0, share), "1-sqrt": 1 - math.sqrt(share)}[self.decay]
        return self.end_value + (self.value - self.end_value) * rest


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """`value`, times `factor` whenever more than `patience` metrics in a row were no better than the best. Better is
    below best * (1 - threshold), with "abs" below best - threshold; with mode="max" above best * (1 + threshold) or
    best + threshold. After a fall the next `cooldown` metrics are not counted. The rate stays at `min_value` or above,
    and does not fall by `eps` or less.

    `after(metric)` is the schedule that goes on, once an epoch. `rate`, `best`, `bad` and `waiting` say how far it is.

    >>> from scirs2_adapters.core.schedules import ReduceOnPlateau
    >>> schedule = ReduceOnPlateau(0.1, factor=0.5, patience=1)
    >>> for loss in (1.0, 0.8, 0.9, 0.8):
    ...     schedule = schedule.after(loss)
    >>> schedule(0)
    0.05

    The formula is that of torch's ReduceLROnPlateau. optax.contrib.reduce_on_plateau does not wait for the last one of
    these metrics, has no `eps` and no "max", and bounds the product of factors in place of the rate.
    """

    value: float
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    mode: Literal["min", "max"] = "min"
    cooldown: int = 0
    min_value: float = 0.0
    eps: float = 1e-8
    rate: float | None = None
    best: float | None = None
    bad: int = 0
    waiting: int = 0

    def __call__(self, count: float) -> float:
        return self.value if self.rate is None else self.rate

    def _is_better(self, metric: float) -> bool:
        sign = 1.0 if self.mode == "min" else -1.0
        best = sign * math.inf if self.best is None else self.best
        margin = best * (1 - sign * self.threshold) if self.threshold_mode == "rel" else best - sign * self.threshold
        return metric < margin if self.mode == "min" else metric > margin

    def after(self, metric: float) -> ReduceOnPlateau:
        metric = as_float("ReduceOnPlateau.after", "metric", "must be a number", metric)
        better = self._is_better(metric)
        bad = 0 if better or self.waiting else self.bad + 1
        now = replace(self, best=metric if better else self.best, bad=bad, waiting=max(0, self.waiting - 1))
        if bad <= self.patience:
            return now
        old, new = self(0), max(self(0) * self.factor, self.min_value)
        return replace(now, rate=new if old - new > self.eps else old, bad=0, waiting=self.cooldown)

    def begun(self) -> ReduceOnPlateau:
        return replace(self, rate=None, best=None, bad=0, waiting=0)


@dataclass(frozen=True)
class Warmup(Schedule):
    """From `init_value` on a straight line of `warmup_steps` steps to the beginning of another schedule, which follows.

    >>> from scirs2_adapters.core.schedules import Cosine, Warmup
    >>> rate = Warmup(Cosine(0.1, steps=900), warmup_steps=100)
    >>> rate(0), rate(50), rate(100), rate(1000)
    (0.0, 0.05, 0.1, 0.0)
    """

    schedule: Callable[[int], float]
    warmup_steps: int
    init_value: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.schedule):
            raise bad_type("Warmup", "schedule", "must be a schedule, or a function of the step count", self.schedule)

    def after(self, metric: float) -> Warmup:
        inner = self.schedule
        return replace(self, schedule=inner.after(metric)) if isinstance(inner, Schedule) else self

    def begun(self) -> Warmup:
        return replace(self, schedule=self.schedule.begun()) if isinstance(self.schedule, Schedule) else self

    def __call__(self, count: float) -> float:
        if count >= self.warmup_steps:
            return float(self.schedule(count - self.warmup_steps))  # type: ignore[arg-type]
        return self.init_value + (float(self.schedule(0)) - self.init_value) * count / self.warmup_steps
