"""The options that every adapter has besides the fields of a rule: how memory is stored, and which path runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..declaration import VALUE
from ..errors import bad_type, bad_value, did_you_mean
from ..fields import is_number, plain_number
from ..formats import SMALLEST
from ..ops import Scalar, Scalars
from ..rounding import ERROR_BITS, ROUNDING_ERROR, STOCHASTIC
from ..rule import Rule
from ..slots import Extent, Leaf, Slot

STATE_DTYPES = ("float64", "float32", "float16", "bfloat16", "int8")
ROUNDINGS = ("nearest", "stochastic", "compensated")
#: Dtypes of which rounding takes enough to matter.
HALVES = ("bfloat16", "float16")
#: Where such an optimizer can be used.
WITH_VALUE = (
    "It steps in scirs2_adapters.torch by `step(closure)`, in scirs2_adapters.jax with `value=loss`, in "
    "scirs2_adapters.sklearn, and in numpy by HostOptimizer."
)
PATHS = ("auto", "host", "traced")
StateDtype = str | Mapping[str, str] | None


def check_state_dtype(call: str, value: object, slots: Sequence[Slot]) -> None:
    """Refuse anything but None, a dtype's name, or names for some of the rule's slots."""
    worded = "must be None, one of " + ", ".join(map(repr, STATE_DTYPES)) + ", or a dict from slot to one of them"
    if value is not None and not isinstance(value, (str, Mapping)):
        raise bad_type(call, "state_dtype", worded, value)
    known = {s.name: s for s in slots}
    for key, dtype in value.items() if isinstance(value, Mapping) else [(None, value)]:
        if key == ROUNDING_ERROR:
            _check_error_dtype(call, dtype)
            continue
        if key is not None and key not in known:
            names = list(known)
            unknown = f"names a slot that is none of {names}"
            raise bad_value(call, "state_dtype", unknown, key, did_you_mean(str(key), names))
        if dtype not in STATE_DTYPES and value is not None:
            raise bad_value(call, "state_dtype", worded, dtype)
        if dtype == "int8" and key is not None and not known[key].may_be_blocks:
            worded = f"cannot keep {key!r} in 8 bits: its numbers are few, or it would lose what it is for"
            raise bad_value(call, "state_dtype", worded, dtype, 'Use "float32".')


def _check_error_dtype(call: str, dtype: object) -> None:
    if dtype not in ERROR_BITS:
        worded = f"must keep the {ROUNDING_ERROR!r} of parameters in one of " + ", ".join(map(repr, ERROR_BITS))
        raise bad_value(call, "state_dtype", worded, dtype)


def check_rounding(call: str, value: object, dtypes: Iterable[str]) -> None:
    """Refuse a `rounding` that is none of them, or that none of the parameters, of these dtypes, has a use for."""
    if value not in ROUNDINGS:
        worded = "must be one of " + ", ".join(map(repr, ROUNDINGS))
        raise bad_value(call, "rounding", worded, value, did_you_mean(str(value), ROUNDINGS))
    names = sorted(set(dtypes))
    if value != "nearest" and not set(HALVES) & set(names):
        worded = "needs parameters of 16 bits, bfloat16 or float16, from which rounding takes something"
        raise bad_value(call, "rounding", worded, f"{value!r} for {', '.join(names)}", 'Use rounding="nearest".')


def slot_dtype(slot: Slot, leaf: Leaf, state_dtype: StateDtype) -> str:
    """The storage of a slot: what is asked for, else the parameter's dtype.

    A copy of the parameter (Lookahead's slow weights, Prodigy's starting point) keeps the parameter's dtype unless it
    is asked for by name. Single numbers and matrices of a side are at least float32, and so are averages of parameters
    unless others are asked for by name: to round those is to change the method. What blocks of 8 bits cannot hold, or
    would save nothing, is kept in the dtype of the arithmetic.
    """
    wide = "float64" if leaf.dtype == "float64" else "float32"
    if slot.extent <= Extent.TENSOR or slot.extent is Extent.SIDE:
        return wide
    usual = wide if slot.accurate else leaf.dtype
    if isinstance(state_dtype, Mapping):
        wanted = state_dtype.get(slot.name, usual)
    else:
        wanted = usual if state_dtype is None or slot.initial == "parameter" else state_dtype
    if wanted != "int8":
        return wanted
    in_blocks = slot.may_be_blocks and math.prod(leaf.shape) >= SMALLEST and not leaf.complex
    return (slot.block_dtype or wide) if in_blocks else wide


def param_storage(leaf: Leaf, rounding: str, state_dtype: StateDtype) -> str:
    """How a parameter is stored: in its dtype; one of 16 bits with its rounding error beside it if rounding is
    compensated, and with a seed if it is stochastic.
    """
    if rounding == "nearest" or leaf.dtype not in HALVES or leaf.complex:
        return leaf.dtype
    if rounding == "stochastic":
        return leaf.dtype + STOCHASTIC
    error = state_dtype.get(ROUNDING_ERROR, "int8") if isinstance(state_dtype, Mapping) else "int8"
    return f"{leaf.dtype}+{error}"


def counts_steps(rule: Rule, leaf: Leaf, rounding: str, state_dtype: StateDtype) -> bool:
    """Whether the step of a parameter depends on how many there were: by the formula, or by numbers that are stored
    now above and now below, which unsigned codes and stochastic rounding decide anew in each step.
    """
    dithered = any(slot_dtype(slot, leaf, state_dtype) == "uint8" for slot in rule.slots(leaf))
    by_chance = param_storage(leaf, rounding, state_dtype).endswith(STOCHASTIC)
    return rule.time_dependence == "step" or dithered or by_chance


def with_error(leaf: Leaf, rounding: str, state_dtype: StateDtype) -> Leaf:
    """The leaf with the bits that a rounding error adds to it, if it has one."""
    error = param_storage(leaf, rounding, state_dtype).partition("+")[2]
    return replace(leaf, error_bits=ERROR_BITS.get(error, 0))


def check_path(call: str, kernel: object) -> None:
    """Refuse a `kernel` that is none of the paths."""
    if kernel not in PATHS:
        raise bad_value(call, "kernel", 'must be "auto", "host" or "traced"', kernel, did_you_mean(str(kernel), PATHS))


def takes_host(call: str, kernel: str, reason: str | None) -> bool:
    """Whether the host kernel runs. `reason` says why it cannot, or is None; to ask for it in vain is an error."""
    if kernel == "host" and reason:
        worded = f"cannot be the host kernel here: {reason}"
        raise bad_value(call, "kernel", worded, "host", 'Use kernel="traced" or "auto".')
    return kernel != "traced" and reason is None


def check_value(call: str, rule: Rule, value: Scalar, argument: str, requirement: str, way_out: str) -> Scalar:
    """The loss of a step that depends on it: a number, or an array of no axes. NaN is a loss."""
    number = plain_number(value)
    is_real = getattr(number, "shape", None) == () and "complex" not in str(getattr(number, "dtype", ""))
    if not (is_number(number) or is_real):
        raise bad_type(call, argument, f"{requirement}: the step of {rule.label} depends on it", value, way_out)
    return number


def value_scalars(rule: Rule, value: Scalar) -> Scalars:
    """The loss as a coefficient of a rule that takes it: of what is to be maximized, the negative one."""
    return {VALUE: -value if rule.maximize else value} if rule.needs_value else {}


def refuse_value(call: str, rule: Rule, framework: str) -> None:
    """Refuse a rule whose step depends on the loss where the framework around the optimizer keeps that to itself."""
    if rule.needs_value:
        worded = f"must be an optimizer whose step does not depend on the loss, which {framework} does not hand to it"
        raise bad_value(call, "base" if hasattr(rule, "base") else "", worded, rule.label, WITH_VALUE)
