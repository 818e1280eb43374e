"""The storage formats (`core/formats.py`, `core/rounding.py`) as functions of a Triton kernel, written by recording
them: an operation on a `Value` is a line of text.

A tile has one block in each row, so that the maximum along its rows makes the scales.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

from scirs2_adapters.core import formats


class Value:
    """A name in the text; its operators write a line that makes another one. A row of a tile counts as its only one."""

    shape = (1,)

    def __init__(self, text: str, lines: list[str]) -> None:
        self.text, self.lines = text, lines

    def make(self, form: str, *others: object) -> Value:
        """The value of this expression, in which each {} stands for the next operand."""
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {form.format(self.text, *map(_text, others))}")
        return Value(name, self.lines)


def _text(x: object) -> str:
    if isinstance(x, Value):
        return x.text
    return f'float("{x}")' if isinstance(x, float) and not math.isfinite(x) else repr(x)


def _form(form: str) -> Callable[..., Value]:
    """A function of values, or of a value and numbers, as this expression."""
    return lambda x, *others: x.make(form, *others)


_INFIX = {"add": "+", "sub": "-", "mul": "*", "lt": "<", "gt": ">", "eq": "=="}
_OPERATORS = {name: f"{{}} {operator} {{}}" for name, operator in _INFIX.items()}
_OPERATORS |= {"neg": "-{}", "radd": "{1} + {0}", "rsub": "{1} - {0}", "rtruediv": "tl.div_rn({1}, {0})"}
for _name, _expression in _OPERATORS.items():
    setattr(Value, f"__{_name}__", _form(_expression))


def _to(x: Value, dtype: str) -> Value:
    return x.make(f"{{}}.to(tl.{dtype})")


def _seen_as(x: Value, dtype: str) -> Value:
    return x.make(f"{{}}.to(tl.{dtype}, bitcast=True)")


FORMAT_OPS = SimpleNamespace(
    number=float,
    integer=int,
    where=_form("tl.where({}, {}, {})"),
    sqrt=_form("tl.sqrt_rn({})"),
    abs=_form("tl.abs({})"),
    int32=lambda x: _to(x, "int32"),
    float32=lambda x: _to(x, "float32"),
    bits=lambda x: _seen_as(x, "int32"),
    from_bits=lambda x: _seen_as(x, "float32"),
    wrap=lambda x: x,
    shift_left=_form("{} << {}"),
    shift_right=_form("{} >> {}"),
    both=_form("{} & {}"),
    xor=_form("{} ^ {}"),
    half_bits=lambda x: _to(_seen_as(_to(x, "float16"), "int16"), "int32").make("{} & 65535"),
    from_half_bits=lambda x: _to(_seen_as(_to(x, "int16"), "float16"), "float32"),
    cast=_to,
    rows=lambda x, count: x,
    unrows=lambda x, shape: x,
    largest=_form("tl.max({}, axis=1, keep_dims=True)"),
    indices=lambda x, n: Value("places", x.lines),
    code=lambda x: _to(_seen_as(x, "int16"), "int32"),
    uncode=lambda x, dtype: _seen_as(_to(x, "int16"), dtype),
)


def function_name(verb: str, dtype: str) -> str:
    """What the function that loads or stores a storage is called."""
    return f"{verb}_{dtype.replace('+', '_')}"


def functions(dtype: str) -> list[str]:
    """`load(x, other)`, which gives float32 numbers, and `store(x, number, other, places)`, which gives the array and
    its companion of such numbers; `places` are the elements' in their blocks, and those in the tensor for stochastic
    rounding.
    """

    def load(x: Value, other: Value) -> Sequence[Value]:
        return [formats.load(FORMAT_OPS, dtype, x, other)]

    def store(x: Value, number: Value, other: Value, places: Value) -> Sequence[Value]:
        return formats.store(FORMAT_OPS, dtype, x, number, other)

    pairs = (("load", load), ("store", store))
    return [_function(function_name(verb, dtype), function) for verb, function in pairs]


def _function(called: str, function: Callable[..., Sequence[Value]]) -> str:
    lines: list[str] = []
    names = list(inspect.signature(function).parameters)
    results = function(*[Value(x, lines) for x in names])
    body = [*lines, f"return {', '.join(x.text for x in results)}"]
    return "\n".join(["@triton.jit", f"def {called}({', '.join(names)}):", *(f"    {line}" for line in body), ""])
