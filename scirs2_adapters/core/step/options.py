"""The options that every adapter has besides a rule's own fields: how memory is stored, and which path runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import bad_type, bad_value, did_you_mean
from ..slots import Extent, Slot

STATE_DTYPES = ("float64", "float32", "float16", "bfloat16")
PATHS = ("auto", "host", "traced")
StateDtype = str | Mapping[str, str] | None


def check_state_dtype(call: str, value: object, slots: Sequence[Slot]) -> None:
    """Refuse anything but None, a dtype's name, or names for some of the rule's slots."""
    worded = "must be None, one of " + ", ".join(map(repr, STATE_DTYPES)) + ", or a dict from slot to one of them"
    if value is not None and not isinstance(value, (str, Mapping)):
        raise bad_type(call, "state_dtype", worded, value)
    known = [s.name for s in slots]
    for key, dtype in value.items() if isinstance(value, Mapping) else [(None, value)]:
        if key is not None and key not in known:
            unknown = f"names a slot that is none of {known}"
            raise bad_value(call, "state_dtype", unknown, key, did_you_mean(str(key), known))
        if dtype not in STATE_DTYPES and value is not None:
            raise bad_value(call, "state_dtype", worded, dtype)


def slot_dtype(slot: Slot, parameter: str, state_dtype: StateDtype) -> str:
    """The storage of a slot: what is asked for, else the parameter's dtype.

    A copy of the parameter (Lookahead's slow weights, Prodigy's starting point) keeps the parameter's dtype unless it
    is asked for by name, and single numbers are at least float32: to round those is to change the method.
    """
    if slot.extent <= Extent.TENSOR:
        return "float64" if parameter == "float64" else "float32"
    if isinstance(state_dtype, Mapping):
        return state_dtype.get(slot.name, parameter)
    return parameter if state_dtype is None or slot.initial == "parameter" else state_dtype


def check_path(call: str, kernel: object) -> None:
    """Refuse a `kernel` that is none of the paths."""
    if kernel not in PATHS:
        raise bad_value(call, "kernel", 'must be "auto", "host" or "traced"', kernel, did_you_mean(str(kernel), PATHS))


def takes_host(call: str, kernel: str, reason: str | None) -> bool:
    """Whether the host kernel runs, given why it cannot, if it cannot; asked for and impossible is an error."""
    if kernel == "host" and reason:
        worded = f"cannot be the host kernel here: {reason}"
        raise bad_value(call, "kernel", worded, "host", 'Use kernel="traced" or "auto".')
    return kernel != "traced" and reason is None
