"""The errors of scirs2, one template each, so that every adapter speaks the same way.

`` `Lion(beta1=...)` must be in [0, 1). Received: 1.5. `` and then the way out, when there is one. The argument is
spelled as the user typed it in that adapter. All derive from ValueError, TypeError or ImportError, the types that
callers of the frameworks already catch.

`require` reads a framework's version from the module it imported and not from package metadata: the same import name
comes from several distributions (tensorflow, tensorflow-cpu), and the module is the one that will run.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType

_LONGEST_SHOWN = 100


class ArgumentValueError(ValueError):
    """An argument of the right type is out of its range. `argument` and `received` are what the message says of it."""

    argument: str = ""
    received: object = None


class ArgumentTypeError(TypeError):
    """An argument has a type that cannot be used."""


class MissingExtraError(ImportError):
    """An adapter's framework is not installed, or is older than the adapter can drive."""


def bad_value(call: str, argument: str, requirement: str, received: object, way_out: str = "") -> ArgumentValueError:
    """The error for a wrong value, to be raised: `raise bad_value("Lion", "beta1", "must be in [0, 1)", 1.5)`.

    `requirement` begins with "must"; `way_out` is a whole sentence, or nothing.
    """
    error = ArgumentValueError(_message(call, argument, requirement, _shown(received), way_out))
    error.argument, error.received = argument, received
    return error


def bad_type(call: str, argument: str, requirement: str, received: object, way_out: str = "") -> ArgumentTypeError:
    """The error for a wrong type, to be raised; it shows the type that came beside the value."""
    shown = f"{_shown(received)} ({type(received).__name__})"
    return ArgumentTypeError(_message(call, argument, requirement, shown, way_out))


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """What to append to a message about a misspelled name, with its leading space; nothing where no choice is close."""
    by_fold = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(str(name).casefold(), by_fold, n=1)
    return f" Did you mean `{by_fold[close[0]]}`?" if close else ""


def require(
    adapter: str, needs: Mapping[str, tuple[str, str]], *, indirect: Mapping[str, tuple[str, str]] | None = None
) -> None:
    """Import what an adapter stands on, or say which extra is missing. The first statement of every adapter.

    `needs` maps an import name to the framework's name for people and the oldest version that works. `indirect` has
    the same form, for what the user's settings may make a framework import (Keras and its backend): never imported
    here, but named if it turns out to be the one missing. Any other failure is the framework's and passes through
    untouched, because a broken install is not mended by an extra.
    """
    known = {**(indirect or {}), **needs}
    for name in needs:
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in known:
                raise
            human = known[error.name][0]
            raise _extra_error(adapter, f"{human}, which is not installed", "Install", error.name) from error
        _check_version(adapter, module, *needs[name])


def _extra_error(adapter: str, requirement: str, verb: str, name: str) -> MissingExtraError:
    text = f"`scirs2_adapters.{adapter}` needs {requirement}. {verb} it with {install(adapter)}."
    return MissingExtraError(text, name=name)


def install(extra: str) -> str:
    """The commands that install an extra."""
    return f'`pip install "scirs2[{extra}]"` (from a checkout: `pip install ".[{extra}]"`)'


def _check_version(adapter: str, module: ModuleType, human: str, floor: str) -> None:
    version = getattr(module, "__version__", None)
    if isinstance(version, str) and _release(version) < _release(floor):
        raise _extra_error(adapter, f"{human} {floor} or newer. Found: {version}", "Upgrade", module.__name__)


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers, without trailing zeros: a release candidate of the floor has the API of the floor."""
    digits = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, re.sub(r"(\.0+)+$", "", digits[0]).split("."))) if digits else (0,)


def _message(call: str, argument: str, requirement: str, shown: str, way_out: str) -> str:
    subject = f"`{call}({argument}=...)`" if argument else f"`{call}`"
    return f"{subject} {requirement}. Received: {shown}. {way_out.strip()}".rstrip()


def _shown(value: object) -> str:
    """The value on one line of bounded length: an error must not print a whole array, nor what is inside one."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and not isinstance(value, type) and len(shape):
        return f"an array of shape {tuple(shape)} and dtype {dtype}"
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
