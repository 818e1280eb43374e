"""What is checked: the class or factory of an optimizer at `package.module:Class`, and the arguments that it gets."""

from __future__ import annotations

import ast
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module

from scirs2_adapters.core.errors import did_you_mean

from .outcome import SubjectError, told

#: What a learning rate may be called, the likeliest first.
RATES = ("lr", "learning_rate", "learning_rate_init", "eta0", "alpha", "eta")
#: For those that have no default learning rate.
USUAL_RATE = 1e-3

#: Arguments by name, in the place of those that an optimizer is made with otherwise.
Changes = Mapping[str, object]
NOTHING: Changes = {}


@dataclass(frozen=True)
class Subject:
    """A class or factory. Every optimizer that is made of it gets the arguments `fixed`."""

    path: str
    factory: Callable[..., object]
    fixed: Mapping[str, object] = field(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The arguments that it takes."""
        try:
            return inspect.signature(self.factory).parameters
        except (TypeError, ValueError) as error:
            raise SubjectError(f"`{self.path}` must have a signature that Python can read ({error}).") from error

    @property
    def rate(self) -> str | None:
        """What it calls its learning rate, a number; None if it has none."""
        return next((word for word in RATES if self._is_number(word)), None)

    def _is_number(self, word: str) -> bool:
        parameter = self.parameters.get(word)
        default = self.fixed.get(word, parameter.default) if parameter else None
        return parameter is not None and (default is parameter.empty or isinstance(default, float | int))

    @property
    def rate_value(self) -> float:
        """The learning rate that it is made with."""
        assert self.rate is not None
        value = self.fixed.get(self.rate, self.parameters[self.rate].default)
        return float(value) if isinstance(value, float | int) else USUAL_RATE

    def arguments(self, known: tuple[str, ...] = (), changes: Changes = NOTHING) -> dict[str, object]:
        """The arguments of one optimizer. A learning rate without a default is the usual one; other arguments without a
        default must be `fixed`.
        """
        values = dict(self.fixed)
        for word, p in self.parameters.items():
            needed = p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
            if needed and word not in {*values, *known}:
                if word == "params":
                    raise SubjectError(f"`{self.path}` needs `params`, as optimizers of `--framework torch` do.")
                if word != self.rate:
                    raise SubjectError(f"`{self.path}` needs `{word}`, which has no default: give it by `--with`.")
                values[word] = USUAL_RATE
        return values | dict(changes)

    def defaults(self) -> dict[str, object]:
        """Its arguments and their values, as far as there are any."""
        values = {k: p.default for k, p in self.parameters.items() if p.default not in (p.empty, None)}
        return values | ({self.rate: self.rate_value} if self.rate else {}) | dict(self.fixed)


def find(path: str, arguments: str = "") -> Subject:
    """The class or factory at `package.module:Class`, in this folder or installed."""
    module, colon, name = path.partition(":")
    if not (module and colon and name) or "/" in module or module.endswith(".py"):
        raise SubjectError(f"An optimizer is named as `package.module:Class`. Received: {path!r}.")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        target: object = import_module(module)
    except (Exception, SystemExit) as error:
        raise SubjectError(f"`{module}` cannot be imported ({told(error)}).") from error
    for part in name.split("."):
        if not hasattr(target, part):
            raise SubjectError(f"`{module}` has no `{name}`.{did_you_mean(part, dir(target))}")
        target = getattr(target, part)
    if not callable(target):
        raise SubjectError(f"`{path}` must be a class or a function that makes an optimizer. Received: {target!r}.")
    return Subject(path, target, keywords(arguments))


def keywords(text: str) -> dict[str, object]:
    """`lr=0.1,betas=(0.9,0.99)` as a dict; values are Python's literals."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args or any(word.arg is None for word in call.keywords):
            raise ValueError("a value without a name")
        if len({word.arg for word in call.keywords}) < len(call.keywords):
            raise ValueError("a name twice")
        return {str(word.arg): _literal(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, AssertionError) as error:
        form = "must be arguments as Python has them, such as lr=0.1,betas=(0.9,0.99)"
        raise SubjectError(f"`--with` {form}. Received: {text!r} ({error}).") from error


def _literal(value: ast.expr) -> object:
    try:
        return ast.literal_eval(value)
    except ValueError:
        written = ast.unparse(value)
        name = f"; a text is {written!r}" if isinstance(value, ast.Name) else ""
        raise ValueError(f"{written} is no literal{name}") from None
