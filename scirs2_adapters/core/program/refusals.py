"""What a formula must not do, and what to write instead: the errors that the author of a rule sees when its formula is
recorded.
"""

from __future__ import annotations

import reprlib

from ..errors import ArgumentTypeError
from ..ops import FORMULA_NAMES

#: The closed list of what a formula may use.
MAY = "A formula may use + - * /, the comparisons > >= < <=, and " + ", ".join(f"`xp.{n}`" for n in FORMULA_NAMES) + "."

_BRANCH = "has a branch. A formula cannot branch on an array: use `xp.where`, or a static field of the rule"
#: Methods of arrays, without their underscores, that are refused: what the formula does, and what to write instead.
INSTEAD = (
    ("bool", _BRANCH, ""),
    ("pow rpow", "raises to a power", "Write `g * g` or `xp.sqrt(g)`; powers of numbers belong in `coefficients`."),
    ("float int index complex round", "makes a number of an array", "It is recorded once, before there are numbers."),
    ("getitem setitem iter len contains", "looks at elements of an array", "It is written for one array as a whole."),
    ("eq ne", "asks whether arrays are equal", "Write comparisons with `>=` and `<=`."),
    ("abs", "calls `abs`", "Write `xp.abs(g)`."),
    ("matmul rmatmul", "multiplies matrices", "Write a function of matrices and call it by `xp.matrix`."),
    (
        "mod rmod floordiv rfloordiv and rand or ror xor rxor invert pos divmod",
        "uses an operator that is not there",
        "",
    ),
    ("array array_ufunc array_function", "calls a function of numpy", "Only the functions of `xp` run on every path."),
)


class UnknownOperation(ArgumentTypeError, AttributeError):
    """A formula uses a name that arrays or `xp` do not have."""


def refused(formula: str, what: str, instead: str = "", closed_list: bool = True) -> ArgumentTypeError:
    """The error for a formula that cannot be recorded, to be raised: what it does, and what to write instead."""
    return ArgumentTypeError(_message(formula, what, instead, closed_list))


def unknown_operation(formula: str, what: str, instead: str = "") -> UnknownOperation:
    """The same for a name that is not there, which `hasattr` understands."""
    return UnknownOperation(_message(formula, what, instead, True))


def _message(formula: str, what: str, instead: str, closed_list: bool) -> str:
    return " ".join(filter(None, [f"`{formula}` {what}.", instead.strip(), MAY if closed_list else ""]))


def shown(value: object) -> str:
    """A value on one line of bounded length."""
    return " ".join(reprlib.repr(value).split())
