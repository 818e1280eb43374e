"""What a formula must not do, and what to write instead."""

from __future__ import annotations

import contextlib
import reprlib
from collections.abc import Container, Iterator

from ..errors import ArgumentTypeError, did_you_mean
from ..ops import FORMULA_NAMES

#: The closed list of what a formula may use.
_MAY = f"A formula may use + - * /, the comparisons > >= < <=, and {', '.join(f'`xp.{n}`' for n in FORMULA_NAMES)}."
_BRANCH = "has a branch. A formula cannot branch on an array: use `xp.where`, or a static field of the rule"
#: Methods of arrays, without their underscores, that are refused: what the formula does, and what to write instead.
METHODS = (
    ("bool", _BRANCH, ""),
    ("pow rpow", "raises to a power", "Write `g * g`, `xp.sqrt(g)` or `xp.power(g, exponent)`."),
    ("float int index complex round", "makes a number of an array", "It is recorded once, before there are numbers."),
    ("getitem setitem iter len contains", "looks at elements of an array", "It is written for one array as a whole."),
    ("eq ne", "asks whether arrays are equal", "Write comparisons with `>=` and `<=`."),
    ("abs", "calls `abs`", "Write `xp.abs(g)`."),
    ("matmul rmatmul", "multiplies matrices", "Write a function of matrices and call it by `xp.matrix`."),
    (
        "mod rmod floordiv rfloordiv divmod invert pos and rand or ror xor rxor",
        "uses an operator that is not there",
        "",
    ),
    ("array array_ufunc array_function", "calls a function of numpy", ""),
)
#: Functions that other libraries have, and what to write in a formula.
_WRITTEN = {
    "square": "`g * g`",
    **dict.fromkeys(("pow", "float_power"), "`g * g`, `xp.sqrt(g)` or `xp.power(g, exponent)`"),
    **dict.fromkeys(("clip", "clamp"), "`xp.minimum(xp.maximum(g, low), high)`, with `low` from `coefficients`"),
    **dict.fromkeys(("max", "min", "amax", "amin", "fmax", "fmin"), "`xp.maximum(g, low)` or `xp.minimum(g, high)`"),
    "exp": "`xp.power(e, g)`, with `e`, which is `math.exp(1.0)`, from `coefficients`",
    **dict.fromkeys(("expm1", "log", "log1p"), "it in `coefficients`, of numbers; arrays have none"),
    "sum": "`xp.mean(g)`, `xp.norm(g)`, or `xp.total(g)` for a sum over the whole model",
    **dict.fromkeys(("linalg_norm", "linalg_vector_norm", "vector_norm"), "`xp.norm(g)`"),
    **dict.fromkeys(("rsqrt", "reciprocal"), "`one / g`, with `one` after the `/` of the signature"),
    **dict.fromkeys(("add", "subtract", "multiply", "divide"), "+ - * / between arrays and coefficients"),
    **dict.fromkeys(("absolute", "fabs"), "`xp.abs(g)`"),
}


class UnknownOperation(ArgumentTypeError, AttributeError):
    """A formula uses a name that arrays or `xp` do not have: an error that `hasattr` understands."""


def refused(
    formula: str, fault: str, instead: str = "", closed_list: bool = True, kind: type[Exception] = ArgumentTypeError
) -> Exception:
    """The error for a formula that cannot be recorded, to be raised: what it does, and what to write instead."""
    return kind(" ".join(filter(None, [f"`{formula}` {fault}.", instead.strip(), _MAY if closed_list else ""])))


@contextlib.contextmanager
def names_refused(formula: str, coefficients: Container[str]) -> Iterator[None]:
    """Names that a formula does not have are explained: a coefficient that it does not take, or a module."""
    try:
        yield
    except NameError as error:
        if error.name in coefficients:
            instead = f"Take it after the `/` of the signature: `..., /, {error.name})`."
            raise refused(formula, f"uses `{error.name}` and does not take it", instead, closed_list=False) from None
        if error.name == "math":
            raise refused(formula, "uses `math`", "Write it in `coefficients`, of numbers.") from None
        raise


def instead_of(function: str) -> str:
    """What to write in place of a function of this name, where that is known."""
    name = function.strip("_")
    if name in FORMULA_NAMES:
        return f"Write `xp.{name}`."
    return f"Write {_WRITTEN[name]}." if name in _WRITTEN else did_you_mean(name, FORMULA_NAMES)


def shown(value: object) -> str:
    """A value on one line of bounded length."""
    return " ".join(reprlib.repr(value).split())
