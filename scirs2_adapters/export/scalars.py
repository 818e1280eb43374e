"""Scalar arithmetic of a rule as C or JavaScript: `coefficients` is called with symbols, and each operation becomes a
line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

from scirs2_adapters.core.ops import Scalar


@dataclass(frozen=True)
class Language:
    """How scalar arithmetic is written: `{0}` and so on are the arguments of a function. `max` and `min` are Python's,
    which keep the first of two equal numbers.
    """

    declaration: str
    infinity: str
    functions: Mapping[str, str]
    power: str
    modulo: str


_COMMON = {
    "maximum": "({1} > {0} ? {1} : {0})",
    "minimum": "({1} < {0} ? {1} : {0})",
    "where": "({0} ? {1} : {2})",
}
C = Language(
    "const double {} = {};",
    "INFINITY",
    {name: f"{name}({{0}})" for name in ("sqrt", "exp", "expm1")}
    | {"log": "({0} > 0.0 ? log({0}) : -INFINITY)", **_COMMON},
    "pow({}, {})",
    "fmod({}, {})",
)
JAVASCRIPT = Language(
    "const {} = {};",
    "Infinity",
    {name: f"Math.{name}({{0}})" for name in ("sqrt", "exp", "expm1")}
    | {"log": "({0} > 0.0 ? Math.log({0}) : -Infinity)", **_COMMON},
    "({}) ** ({})",
    "{} % {}",
)
_NAME = re.compile(r"\bv\d+\b")


def literal(value: Scalar, language: Language = C) -> str:
    """A number as the language has it, to the bit."""
    number = float(value)
    if math.isinf(number):
        return language.infinity if number > 0 else f"-{language.infinity}"
    return repr(number)


class Lines:
    """The values computed so far, by name, and the expression of each. Equal expressions are computed once."""

    def __init__(self, language: Language = C) -> None:
        self.language = language
        self._names: dict[str, str] = {}

    def symbol(self, expression: str) -> Symbol:
        """The value of an expression, under a new name."""
        return Symbol(self, self._names.setdefault(expression, f"v{len(self._names)}"))

    def needed_for(self, texts: Iterable[str]) -> list[str]:
        """The statements that these texts need, in order."""
        needed = {name for text in texts for name in _NAME.findall(text)}
        statements = []
        for expression, name in reversed(self._names.items()):
            if name in needed:
                needed.update(_NAME.findall(expression))
                statements.append(self.language.declaration.format(name, expression))
        return statements[::-1]

    def math(self) -> SimpleNamespace:
        """The functions that `coefficients` gets."""

        def function(pattern: str) -> Callable[..., Symbol]:
            return lambda *args: self.symbol(pattern.format(*map(self.spelled, args)))

        return SimpleNamespace(**{name: function(pattern) for name, pattern in self.language.functions.items()})

    def spelled(self, value: Scalar) -> str:
        """A symbol or a number."""
        return value.name if isinstance(value, Symbol) else literal(value, self.language)


def _binary(pattern: str) -> Callable[[Symbol, Scalar], Symbol]:
    return lambda self, other: self.lines.symbol(pattern.format(self.name, self.lines.spelled(other)))


def _reflected(pattern: str) -> Callable[[Symbol, Scalar], Symbol]:
    return lambda self, other: self.lines.symbol(pattern.format(self.lines.spelled(other), self.name))


class Symbol:
    """A float64 number that is known when the program runs."""

    def __init__(self, lines: Lines, name: str) -> None:
        self.lines, self.name = lines, name

    def __bool__(self) -> bool:
        raise TypeError("A number of the program has no value yet: `coefficients` must use `math.where`.")

    def __neg__(self) -> Symbol:
        return self.lines.symbol(f"-{self.name}")

    __add__, __radd__ = _binary("{} + {}"), _reflected("{} + {}")
    __sub__, __rsub__ = _binary("{} - {}"), _reflected("{} - {}")
    __mul__, __rmul__ = _binary("{} * {}"), _reflected("{} * {}")
    __truediv__, __rtruediv__ = _binary("{} / {}"), _reflected("{} / {}")

    def __pow__(self, other: Scalar) -> Symbol:
        return self.lines.symbol(self.lines.language.power.format(self.name, self.lines.spelled(other)))

    def __rpow__(self, other: Scalar) -> Symbol:
        return self.lines.symbol(self.lines.language.power.format(self.lines.spelled(other), self.name))

    def __mod__(self, other: Scalar) -> Symbol:
        return self.lines.symbol(self.lines.language.modulo.format(self.name, self.lines.spelled(other)))

    __lt__, __le__, __gt__, __ge__ = _binary("{} < {}"), _binary("{} <= {}"), _binary("{} > {}"), _binary("{} >= {}")
    __eq__, __ne__ = _binary("{} == {}"), _binary("{} != {}")  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]
