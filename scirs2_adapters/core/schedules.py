"""Learning rates that change with the step count.

A schedule is a function of the number of steps that were taken before: 0 at the first. It is a value, as rules are:
frozen, comparable, picklable, and its `get_config()` can be written as JSON. `HostOptimizer(rule, params,
learning_rate=...)` and the estimators of scikit-learn take one, and any other function of the step count too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from .errors import bad_type, bad_value, did_you_mean
from .fields import Field, Value, choice, count, fraction, nonnegative, positive


def _each(field: Field, *names: str) -> dict[str, Field]:
    return dict.fromkeys(names, field)


#: Every parameter of a schedule, and what it may be.
PARAMETERS: dict[str, Field] = {
    **_each(nonnegative(0.0, ""), "value", "init_value", "end_value", "peak_value"),
    **_each(count(1, ""), "steps", "decay_steps", "timescale"),
    **_each(count(0, "", least=0), "warmup_steps", "stable_steps"),
    **_each(positive(1.0, ""), "power", "decay_rate", "div_factor", "final_div_factor"),
    "pct_start": fraction(0.3, ""),
    "decay": choice("linear", "", "linear", "cosine", "1-sqrt"),
}
#: What a learning rate may be.
RATE = PARAMETERS["value"]


@dataclass(frozen=True)
class Schedule(ABC):
    """A learning rate as a function of the number of steps taken before."""

    known: ClassVar[dict[str, type[Schedule]]] = {}

    def __init_subclass__(cls) -> None:
        if not cls.__name__.startswith("_"):
            cls.known[cls.__name__] = cls

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self) if f.name in PARAMETERS):
            vars(self)[name] = PARAMETERS[name].check(type(self).__name__, name, getattr(self, name))

    @abstractmethod
    def __call__(self, count: float) -> float:
        """The learning rate of the step before which `count` steps were taken."""

    def get_config(self) -> dict[str, Value]:
        """The schedule as plain data, for JSON: `from_config` makes an equal one."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in values.items():
            if isinstance(value, Schedule):
                values[name] = value.get_config()
            elif callable(value):
                raise bad_type(f"{type(self).__name__}.get_config", name, "must be one of our schedules", value)
        return {"name": type(self).__name__, **values}


def from_config(config: Mapping[str, Value]) -> Schedule:
    """The schedule that `get_config` described.

    >>> from scirs2_adapters.core import schedules
    >>> schedules.from_config({"name": "Linear", "init_value": 0.1, "steps": 10})(5)
    0.05
    """
    values = dict(config)
    name = values.pop("name", None)
    if name not in Schedule.known:
        worded = f"must be one of {', '.join(Schedule.known)}"
        raise bad_value("from_config", "name", worded, name, did_you_mean(str(name), Schedule.known))
    return Schedule.known[name](**{k: from_config(v) if isinstance(v, Mapping) else v for k, v in values.items()})


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
            given = getattr(self, name)
            if not isinstance(given, (list, tuple)):
                raise bad_type("Piecewise", name, "must be a tuple", given)
            numbers = (field.check("Piecewise", f"{name}[{i}]", x) for i, x in enumerate(given))
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

    def __call__(self, count: float) -> float:
        if count >= self.warmup_steps:
            return float(self.schedule(count - self.warmup_steps))  # type: ignore[arg-type]
        return self.init_value + (float(self.schedule(0)) - self.init_value) * count / self.warmup_steps


def rate_at(call: str, schedule: Callable[[int], float], count: int) -> float:
    """The learning rate that a user's function gives for this step count, refused unless it is a number >= 0."""
    value = schedule(count)
    rate = value if isinstance(value, (int, float)) else getattr(value, "item", lambda: value)()
    worded = f"must return {RATE.requirement.removeprefix('must be ')}, and at step count {count} does not"
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise bad_type(call, "learning_rate", worded, value)
    if not RATE.accepts(rate):
        raise bad_value(call, "learning_rate", worded, value)
    return float(rate)
