"""The count of steps of frameworks that have one for all parameters."""

from __future__ import annotations

from ..errors import bad_value
from .fit import Asked, Report, listed
from .state import State


def one_count(asked: Asked, state: State, here: int, report: Report) -> int:
    """The count of steps where there is one for all parameters; what has taken several counts is refused. Parameters
    that have not been stepped yet, as frozen ones, are so unless `strict`, and then stay as they were. Where the file
    has slots and no count it is that of now, and at least 1: the first step has been.
    """
    counts = {name: p.steps for name, p in state.parameters.items() if p.steps is not None}
    waiting = [name for name, n in counts.items() if not n and not state.parameters[name].slots]
    if len({*counts.values()} - {0}) > 1 or (len({*counts.values()}) > 1 and (asked.strict or not waiting)):
        worded = "must have the same number of steps for all parameters: this framework counts once for all"
        way_out = f"Use `strict=False` to leave {listed(waiting)}, not stepped in the file, as it is here."
        raise bad_value(asked.call, "path", worded, sorted({*counts.values()}), way_out if waiting else "")
    if counts or not state.parameters:
        report.missing += waiting if any(counts.values()) else []
        return max(counts.values(), default=state.step_count)
    return max(here, 1)
