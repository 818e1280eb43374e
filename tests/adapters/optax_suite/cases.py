"""The cases of optax's tests that ask for an optimizer that we have.

A test module of optax's is loaded a second time, and its cases are noted (see wheel_suite.py). Where it reads an
optimizer from one of optax's modules, as in `alias.adam`, it gets a stand-in for that module.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import optax

from .. import wheel_suite
from .factories import NAMES, Ours, matches

WHEEL = Path(optax.__file__).parent
#: Suites over a list of optimizers instead of cases: they run over every factory of ours, see listed.py.
LISTED = ("_src/float64_test.py", "_src/sharding_test.py")
#: The suites of which each optimizer has the same cases.
GRIDS = ("_src/alias_test.py", "contrib/_common_test.py")
#: In optax's tests, what is not the name of an optimizer.
NICKNAMES = {"sgd_mom": "sgd"}
#: How optax's tests read an optimizer from a module: by its name, or by one that is an argument of the test.
READ = re.compile(rf"\b(?:alias|contrib|_\w+|lookahead|optax)\.({'|'.join(NAMES)})\b")
READ_BY_NAME = re.compile(r"getattr\((?:alias|contrib), \w*opt_name\)")
_WRAPPER = ("wrapper_name", "wrapper_kwargs")
#: Arguments of a test that make no difference to the optimizer: a case that differs from another in them alone is left
#: out. A wrapper is not used, or the line search that stands behind one step of SGD takes other numbers.
INDIFFERENT = {
    "test_state_shape_dtype_shard_stability": _WRAPPER,
    "test_optimizers_accept_learning_rate_schedule_if_type_annotated_as_such": _WRAPPER,
    "test_linesearch": ("increase_factor", "slope_rtol", "atol", "rtol"),
}


@dataclass(frozen=True)
class Case:
    """One case of one of optax's tests. `names` are those optimizers of optax's for which it asks and that we have."""

    file: str
    cls: str
    test: str
    names: tuple[str, ...]
    match: str | None
    words: tuple[str, ...]
    args: tuple[Any, ...] = field(compare=False, repr=False)
    keywords: Mapping[str, Any] = field(compare=False, repr=False)

    def __str__(self) -> str:
        start = (Path(self.file).stem.strip("_").removesuffix("_test"), self.test, self.name, self.match)
        return "-".join(filter(None, (*start, *self.words)))

    @property
    def name(self) -> str:
        """The optimizers in a word."""
        return "+".join(self.names)

    @property
    def alike(self) -> tuple[str, ...]:
        """What it has in common with the cases that differ from it in arguments alone (see sampling.py)."""
        return self.file, self.test, self.name, str(self.match)

    def run(self, theirs: bool = False) -> None:
        """Runs it as optax does, with our factories or `theirs`: passes, raises, or raises `unittest.SkipTest`."""
        for word, held in holders(self.file).items():
            setattr(loaded(self.file), word, held if theirs else Ours(held, self.match))
        suite = getattr(loaded(self.file), self.cls)(self.test)
        suite.setUp()
        getattr(suite, self.test)(*self.args, **self.keywords)


@functools.cache
def loaded(file: str) -> ModuleType:
    """A test module of optax's."""
    return wheel_suite.loaded(WHEEL / file, "optax_suite")


@functools.cache
def holders(file: str) -> dict[str, ModuleType]:
    """The modules from which a test module reads optimizers, by its names for them; they are optax's when first asked
    for, stand-ins from then on.
    """
    modules = {k: m for k, m in vars(loaded(file)).items() if isinstance(m, ModuleType)}
    return {k: m for k, m in modules.items() if m.__name__.startswith("optax") and any(hasattr(m, n) for n in NAMES)}


@functools.cache
def files() -> tuple[str, ...]:
    """optax's test modules that read an optimizer that we have."""
    texts = {path.relative_to(WHEEL).as_posix(): path.read_text() for path in sorted(WHEEL.rglob("*_test.py"))}
    return tuple(k for k, text in texts.items() if READ.search(text) or READ_BY_NAME.search(text))


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every case about an optimizer that we have, once."""
    by_name: dict[str, Case] = {}
    for file in set(files()) - set(LISTED):
        for suite, test, function in wheel_suite.suites(loaded(file)):
            by_name = {str(case): case for case in _of(file, suite.__name__, test, function)} | by_name
    return tuple(by_name[k] for k in sorted(by_name))


def _of(file: str, cls: str, test: str, function: FunctionType) -> Iterator[Case]:
    read = functools.cache(functools.partial(_read, loaded(file), function))
    for name, args, keywords in wheel_suite.noted(function):
        asked = [NICKNAMES.get(v, v) for k, v in keywords.items() if k.endswith("opt_name")] or read()
        names = tuple(n for n in NAMES if n in asked)
        unused = INDIFFERENT.get(
            test, _WRAPPER if keywords.get("wrap") is False or not keywords.get(_WRAPPER[0]) else ()
        )
        shown = [v for k, v in keywords.items() if k not in unused and not k.endswith("opt_name")]
        words = (name,) if name else tuple(map(_word, (*args, *shown)))
        for match in sorted({m for n in names for m in matches(n)}, key=str):
            yield Case(file, cls, test, names, match, words, args, keywords)


def _read(module: ModuleType, function: Any, seen: tuple[str, ...] = ()) -> set[str]:
    """The optimizers that the text of a function reads, or that of those functions of its module that it names."""
    text = inspect.getsource(function)
    names = set(READ.findall(text))
    for word in set(re.findall(r"\w+", text)) - {*seen, function.__name__}:
        helper = vars(module).get(word)
        if isinstance(helper, FunctionType) and helper.__module__ == module.__name__:
            names |= _read(module, helper, (*seen, function.__name__))
    return names


def _word(x: Any) -> str:
    if isinstance(x, Mapping):
        return ",".join(f"{k}={_word(v)}" for k, v in x.items())
    return str(getattr(x, "__name__", x)).removeprefix("_setup_")
