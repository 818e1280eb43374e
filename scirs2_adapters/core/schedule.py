"""What a schedule is, and what its parameters may be; those that there are stand in `schedules.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

from .errors import bad_type, bad_value, did_you_mean
from .fields import Field, Value, choice, count, fraction, nonnegative, number, positive


def _each(field: Field, *names: str) -> dict[str, Field]:
    return dict.fromkeys(names, field)


#: Every parameter of a schedule, and what it may be.
PARAMETERS: dict[str, Field] = {
    **_each(nonnegative(0.0, ""), "value", "init_value", "end_value", "peak_value", "min_value", "threshold", "eps"),
    **_each(count(1, ""), "steps", "decay_steps", "timescale"),
    **_each(count(0, "", least=0), "warmup_steps", "stable_steps", "patience", "cooldown", "bad", "waiting"),
    **_each(positive(1.0, ""), "power", "decay_rate", "div_factor", "final_div_factor"),
    **_each(fraction(0.3, ""), "pct_start", "factor"),
    "decay": choice("linear", "", "linear", "cosine", "1-sqrt"),
    "mode": choice("min", "", "min", "max"),
    "threshold_mode": choice("rel", "", "rel", "abs"),
    "rate": nonnegative(None, ""),
    "best": number(None, "", "must be a number", lambda x: x == x),
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

    def after(self, metric: float) -> Schedule:
        """The schedule that goes on after this metric, which most schedules ignore."""
        return self

    def begun(self) -> Schedule:
        """The schedule before any metric."""
        return self

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


def rate_at(call: str, schedule: Callable[[int], float], count: int) -> float:
    """The learning rate that a user's function gives for this step count, refused unless it is a number >= 0."""
    worded = f"must return {RATE.requirement.removeprefix('must be ')}, and at step count {count} does not"
    rate = as_float(call, "learning_rate", worded, value := schedule(count))
    if not RATE.accepts(rate):
        raise bad_value(call, "learning_rate", worded, value)
    return rate


def as_float(call: str, argument: str, worded: str, value: Value) -> float:
    """A number, or an array or tensor of one, as a float."""
    plain = value if isinstance(value, (int, float)) else getattr(value, "item", lambda: value)()
    if isinstance(plain, bool) or not isinstance(plain, (int, float)):
        raise bad_type(call, argument, worded, value)
    return float(plain)
