"""Hyperparameter fields: what a rule declares, and the one place where values are checked.

A field is data (default, range, meaning), so constructors, signatures, documentation rows and the spelling of every
adapter are derived from it. Values are checked when a rule is built and never later: inside a step a hyperparameter
may be a traced array, which passes unchecked because it has no value yet. `structural` fields decide which slots exist
(a momentum of 0 needs no buffer); `static` ones are constants of a variant. Both are part of a compiled kernel's
identity; every other field is a number fed to it at each step.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import is_
from typing import Any

import numpy as np

from .errors import bad_type, bad_value

#: What a field holds: a number, a flag, a word, None or a tuple; for a number also a framework's array of one number.
Value = Any
#: What a declaration returns: a `Field`, which reads as its value once the rule is made, as `dataclasses.field` does.
Declared = Any


def is_number(value: object) -> bool:
    """True for a concrete real number: int, float, numpy scalar; not bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_traced(value: object) -> bool:
    """True for a one-element array or tensor of a framework: its value is the framework's business, not ours."""
    is_array = hasattr(value, "dtype") and not isinstance(value, type) and not is_number(value)
    shape = getattr(value, "shape", None) if is_array else None
    return shape is not None and math.prod(shape) == 1


def is_narrow(value: Value) -> bool:
    """Whether this is an array or tensor of 16-bit floats, in which 0.999 may be 1 and 1e-8 is 0."""
    return not isinstance(value, np.ndarray) and str(getattr(value, "dtype", "")).endswith("float16")


def plain_number(value: Value) -> Value:
    """A number of numpy's, an array of one too, as Python's, so that configs and checkpoints hold no other; anything
    else as it is.
    """
    one = isinstance(value, np.generic) or (type(value) is np.ndarray and value.size == 1 and value.ndim <= 1)
    return value.item() if one else value


def _elements(value: Value) -> tuple[Value, ...]:
    """The numbers of an array; what is traced has none yet, and is taken apart."""
    try:
        return tuple(value.tolist())
    except (TypeError, RuntimeError):
        return tuple(value)


def members_of(value: Value, count: int) -> tuple[Value, ...] | None:
    """The members of a sequence of this length, of whatever class (list, array, a config's list), or None."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        members = tuple(value)
    else:  # an array
        members = _elements(value) if getattr(value, "shape", None) == (count,) else ()
    return tuple(map(plain_number, members)) if len(members) == count else None


@dataclass(frozen=True)
class Field:
    """One hyperparameter: `default`, what it `means`, and the check with its wording."""

    default: Value
    means: str
    requirement: str
    accepts: Callable[[Value], bool]
    kind: type | tuple[type, ...] = float
    optional: bool = False
    structural: bool = False
    static: bool = False
    choices: tuple[str, ...] = ()

    @property
    def worded(self) -> str:
        """What a value must be, in words, None among it."""
        return self.requirement + " or None" * self.optional

    def check(self, call: str, argument: str, value: Value) -> Value:
        """Return `value`, or raise an error that names `call(argument=...)` as the user typed it. A numpy scalar comes
        back as Python's number.
        """
        plain = self._plain(value)
        if plain is None and self.optional:
            return plain
        if self.kind in (float, int) and not self.static and is_traced(plain):
            if is_narrow(plain):
                raise bad_type(call, argument, f"{self.worded}, in 32 bits or more", value)
            return plain
        typed = is_number(plain) if self.kind in (float, int) else isinstance(plain, self.kind)
        if not typed or (self.kind is int and not isinstance(plain, numbers.Integral)):
            raise bad_type(call, argument, self.worded, value)
        if not self.accepts(plain):
            raise bad_value(call, argument, self.worded, value)
        return plain

    def _plain(self, value: Value) -> Value:
        """What a rule keeps of a value: Python's numbers, and tuples of them; a tuple that is one stays the same."""
        if not isinstance(self.kind, tuple):
            return plain_number(value)
        several = isinstance(value, Sequence) or bool(getattr(value, "shape", None))
        count = len(value) if several and not isinstance(value, (str, bytes)) else -1
        members = members_of(value, len(self.default) or count)
        return value if members is None or (type(value) is tuple and all(map(is_, value, members))) else members

    def present(self, value: Value) -> bool:
        """Whether a structural value asks for its slot; a traced one always does."""
        return bool(value) if isinstance(value, (bool, numbers.Real)) else value is not None


def number(
    default: float | None, means: str, requirement: str, accepts: Callable[[float], bool], structural: bool = False
) -> Declared:
    """A finite real number in a range worded by `requirement`."""
    return Field(default, means, requirement, accepts, optional=default is None, structural=structural)


def nonnegative(default: float | None, means: str) -> Declared:
    """A finite number of at least 0."""
    return number(default, means, "must be a finite number >= 0", lambda v: 0 <= v < math.inf)


def nonpositive(default: float, means: str, static: bool = False) -> Declared:
    """A finite number of at most 0."""
    field = number(default, means, "must be a finite number <= 0", lambda v: -math.inf < v <= 0)
    return replace(field, static=static)


def rate(default: float) -> Declared:
    """A learning rate."""
    return nonnegative(default, "step size")


def fraction(default: float | None, means: str, structural: bool = False) -> Declared:
    """A decay rate or momentum, in [0, 1)."""
    return number(default, means, "must be in [0, 1)", lambda v: 0 <= v < 1, structural)


def weight(default: float | None, means: str) -> Declared:
    """A weight or a decay rate that may be 1, in [0, 1]."""
    return number(default, means, "must be in [0, 1]", lambda v: 0 <= v <= 1)


def positive(default: float | None, means: str) -> Declared:
    """A number above 0; infinity is allowed."""
    return number(default, means, "must be a number > 0", lambda v: v > 0)


def finite(default: float, means: str) -> Declared:
    """Any finite number."""
    return number(default, means, "must be a finite number", math.isfinite)


def flag(default: bool, means: str, structural: bool = True) -> Declared:
    """True or False; a constant of the variant."""
    return Field(default, means, "must be True or False", lambda v: True, kind=bool, structural=structural, static=True)


def count(default: int, means: str, static: bool = False, least: int = 1) -> Declared:
    """A whole number of at least 1, or of another least."""
    return Field(default, means, f"must be a whole number >= {least}", lambda v: v >= least, kind=int, static=static)


def choice(default: str | None, means: str, *choices: str) -> Declared:
    """One of a few words; a constant of the variant."""
    worded, accepts = "must be one of " + ", ".join(map(repr, choices)), choices.__contains__
    return Field(default, means, worded, accepts, str, default is None, static=True, choices=choices)


def patterns(means: str) -> Declared:
    """Regular expressions, any number of them; a constant of the variant."""
    worded = "must be a tuple of regular expressions"
    return Field((), means, worded, lambda v: all(map(_is_pattern, v)), (tuple, list), static=True)


def _is_pattern(value: Value) -> bool:
    try:
        return bool(re.compile(value)) if isinstance(value, str) else False
    except re.error:
        return False


def numbers_tuple(default: tuple[float, ...], means: str) -> Declared:
    """A tuple of as many finite numbers as the default has."""
    size = len(default)

    def accepts(value: Value) -> bool:
        return len(value) == size and all(is_number(x) and math.isfinite(x) for x in value)

    return Field(default, means, f"must be a tuple of {size} finite numbers", accepts, kind=(tuple, list))
