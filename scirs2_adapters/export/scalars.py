"""Scalar arithmetic of a rule as C: `coefficients` is called with symbols, and each operation becomes a line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from types import SimpleNamespace

from scirs2_adapters.core.ops import Scalar

#: What C calls the functions that `coefficients` may use; `{0}` and so on are the arguments. `max` and `min` are
#: Python's, which keep the first of two equal numbers.
FUNCTIONS = {
    "sqrt": "sqrt({0})",
    "exp": "exp({0})",
    "log": "({0} > 0.0 ? log({0}) : -INFINITY)",
    "expm1": "expm1({0})",
    "maximum": "({1} > {0} ? {1} : {0})",
    "minimum": "({1} < {0} ? {1} : {0})",
    "where": "({0} ? {1} : {2})",
}


_NAME = re.compile(r"\bv\d+\b")


def literal(value: Scalar) -> str:
    """A number as C has it, to the bit."""
    number = float(value)
    if math.isinf(number):
        return "INFINITY" if number > 0 else "-INFINITY"
    return repr(number)


class Lines:
    """The values computed so far, by name, and the expression of each. Equal expressions are computed once."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def symbol(self, expression: str) -> Symbol:
        """The value of an expression, under a name of its own."""
        return Symbol(self, self._names.setdefault(expression, f"v{len(self._names)}"))

    def needed_for(self, texts: Iterable[str]) -> list[str]:
        """The C statements that these texts need, in order."""
        needed = {name for text in texts for name in _NAME.findall(text)}
        statements = []
        for expression, name in reversed(self._names.items()):
            if name in needed:
                needed.update(_NAME.findall(expression))
                statements.append(f"const double {name} = {expression};")
        return statements[::-1]

    def math(self) -> SimpleNamespace:
        """The functions that `coefficients` gets."""

        def function(pattern: str) -> Callable[..., Symbol]:
            return lambda *args: self.symbol(pattern.format(*map(spelled, args)))

        return SimpleNamespace(**{name: function(pattern) for name, pattern in FUNCTIONS.items()})


def spelled(value: Scalar) -> str:
    """A symbol or a number in C."""
    return value.name if isinstance(value, Symbol) else literal(value)


def _binary(pattern: str) -> Callable[[Symbol, Scalar], Symbol]:
    return lambda self, other: self.lines.symbol(pattern.format(self.name, spelled(other)))


def _reflected(pattern: str) -> Callable[[Symbol, Scalar], Symbol]:
    return lambda self, other: self.lines.symbol(pattern.format(spelled(other), self.name))


class Symbol:
    """A float64 number that is known when the C program runs."""

    def __init__(self, lines: Lines, name: str) -> None:
        self.lines, self.name = lines, name

    def __bool__(self) -> bool:
        raise TypeError("A number of the C program has no value yet: `coefficients` must use `math.where`.")

    def __neg__(self) -> Symbol:
        return self.lines.symbol(f"-{self.name}")

    __add__, __radd__ = _binary("{} + {}"), _reflected("{} + {}")
    __sub__, __rsub__ = _binary("{} - {}"), _reflected("{} - {}")
    __mul__, __rmul__ = _binary("{} * {}"), _reflected("{} * {}")
    __truediv__, __rtruediv__ = _binary("{} / {}"), _reflected("{} / {}")
    __pow__, __rpow__ = _binary("pow({}, {})"), _reflected("pow({}, {})")
    __mod__, __rmod__ = _binary("fmod({}, {})"), _reflected("fmod({}, {})")
    __lt__, __le__, __gt__, __ge__ = _binary("{} < {}"), _binary("{} <= {}"), _binary("{} > {}"), _binary("{} >= {}")
    __eq__, __ne__ = _binary("{} == {}"), _binary("{} != {}")  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]
