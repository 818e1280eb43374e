"""The cases of Keras' tests that ask for an optimizer: each test module is loaded a second time, and gets our classes
where it has imported Keras'.
"""

from __future__ import annotations

import functools
import inspect
import re
import unittest
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from ..wheel_suite import loaded, noted, suites
from .classes import BY_WORD, NAMES, in_place_of, matches

WHEEL = Path(keras.src.optimizers.__file__).parent
#: Tests of what the base class and the wrappers do, whichever the formula: they run once.
SHARED = ("loss_scale_optimizer_test.py", "multi_optimizer_test.py", "optimizer_test.py")
READ = re.compile(rf"\b({'|'.join(NAMES)})\(|optimizers\.get\(\"(\w+)\"\)")


@dataclass(frozen=True)
class Case:
    """One case of one of Keras' tests. `names` are the optimizers for which it asks, by the names of Keras' classes."""

    file: str
    cls: str
    test: str
    names: tuple[str, ...]
    match: str | None
    words: tuple[str, ...]
    args: tuple[Any, ...] = field(compare=False, repr=False)
    keywords: Mapping[str, Any] = field(compare=False, repr=False)
    backend: str = keras.backend.backend()

    @property
    def name(self) -> str:
        """The optimizers in a word."""
        return "+".join(self.names)

    def __str__(self) -> str:
        return "-".join(filter(None, (self.file.removesuffix("_test.py"), self.test, self.match, *self.words)))

    def run(self) -> None:
        """Runs it as Keras does, with our classes: passes, raises, or raises `unittest.SkipTest`."""
        module = imported(self.file)
        for word, held in originals(self.file).items():
            setattr(module, word, in_place_of(held, self.match))
        suite = getattr(module, self.cls)(self.test)
        _leave_out(type(suite), getattr(suite, self.test))
        suite.setUp()
        try:
            keywords = {k: in_place_of(v, self.match) for k, v in self.keywords.items()}
            getattr(suite, self.test)(*self.args, **keywords)
        finally:
            suite.doCleanups()


def _leave_out(*marked: Any) -> None:
    """What pytest makes of the marks on a test and its class."""
    for mark in (m for thing in marked for m in getattr(thing, "pytestmark", ())):
        if mark.name == "skipif" and mark.args[0]:
            raise unittest.SkipTest(mark.kwargs["reason"])


@functools.cache
def imported(file: str) -> ModuleType:
    """A test module of Keras'."""
    return loaded(WHEEL / file, "keras_suite")


@functools.cache
def originals(file: str) -> dict[str, Any]:
    """What a test module has imported and gets ours for; Keras' when first asked for."""
    return {word: held for word, held in vars(imported(file)).items() if in_place_of(held, None) is not held}


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every case that asks for an optimizer, once for each way in which ours are used."""
    files = sorted(path.name for path in WHEEL.glob("*_test.py"))
    return tuple(case for file in files for case in _of(file))


def _of(file: str) -> Iterator[Case]:
    for cls, test, function in suites(imported(file)):
        for name, args, keywords in noted(function):
            names = _asked((*args, *keywords.values())) or _read(inspect.getsource(function))
            words = (name,) if name else tuple(map(str, args))
            for match in (None,) if file in SHARED else dict.fromkeys(m for n in sorted(names) for m in matches(n)):
                yield Case(file, cls.__name__, test, tuple(sorted(names)), match, words, args, keywords)


def _asked(values: tuple[Any, ...]) -> set[str]:
    """The optimizers among the arguments of a test: classes, functions that make one, words."""
    names = {v.__name__ for v in values if isinstance(v, type)} & {*NAMES}
    names |= {BY_WORD[v] for v in values if isinstance(v, str) and v in BY_WORD}
    return names.union(*(_read(inspect.getsource(v)) for v in values if inspect.isfunction(v)))


def _read(text: str) -> set[str]:
    """The optimizers that a text names."""
    return {name or BY_WORD.get(word, "") for name, word in READ.findall(text)} & {*NAMES}
