"""What the runs of other libraries' own tests have in common.

A test module that comes in a wheel is loaded a second time, under another name, with absl's decorators replaced by ones
that only note their cases: pytest then runs each case as a test of its own. What does not pass is said with a reason.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import os
import textwrap
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from absl.testing import parameterized


def loaded(path: Path, suite: str) -> ModuleType:
    """A test module under a name of its own, without its effects on the process; its cases are noted, not made."""
    spec = importlib.util.spec_from_file_location(f"{suite}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    kept = {kind: getattr(parameterized, kind) for kind in ("product", "named_parameters", "parameters")}
    environment = dict(os.environ)
    try:
        for kind in kept:
            setattr(parameterized, kind, functools.partial(_noting, kind))
        with warnings.catch_warnings(action="ignore"):
            spec.loader.exec_module(module)
    finally:
        os.environ.clear()
        os.environ.update(environment)
        for kind, decorator in kept.items():
            setattr(parameterized, kind, decorator)
    return module


def _noting(kind: str, *sequences: Any, **grid: Any) -> Callable[[Any], Any]:
    def note(test: Any) -> Any:
        test.noted = kind, sequences, grid
        return test

    return note


def noted(test: Any) -> Iterator[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """The cases of a test as its decorator makes them: name, arguments by position, arguments by name."""
    kind, sequences, grid = getattr(test, "noted", ("product", (), {}))
    if kind == "product":
        for chosen in itertools.product(*sequences, *([{k: v} for v in values] for k, values in grid.items())):
            yield "", (), {k: v for part in chosen for k, v in part.items()}
        return
    alone = len(sequences) == 1 and not isinstance(sequences[0], (tuple, Mapping))
    for one in sequences[0] if alone else sequences:
        if isinstance(one, Mapping):
            yield one.get("testcase_name", ""), (), {k: v for k, v in one.items() if k != "testcase_name"}
        elif kind == "named_parameters":
            yield one[0], tuple(one[1:]), {}
        else:
            yield "", tuple(one) if isinstance(one, (tuple, list)) else (one,), {}


def suites(module: ModuleType) -> Iterator[tuple[type[unittest.TestCase], str, Any]]:
    """Every test of a module: its class, its name and its function."""
    for suite in list(vars(module).values()):
        if isinstance(suite, type) and issubclass(suite, unittest.TestCase):
            yield from ((suite, test, f) for test, f in vars(suite).items() if test.startswith("test"))


@dataclass(frozen=True)
class Reason:
    """Why some cases do not pass: those of these tests, in files with this in their path, which it `concerns`. No tests
    are all tests.
    """

    file: str
    tests: tuple[str, ...]
    reason: str
    concerns: Callable[[Any], bool] = lambda case: True

    def covers(self, case: Any) -> bool:
        """Whether the case is one of these."""
        return self.file in case.file and case.test in (self.tests or (case.test,)) and self.concerns(case)


def why(case: Any, reasons: Iterable[Reason]) -> str | None:
    """The reason for a case, or None."""
    return next((r.reason for r in reasons if r.covers(case)), None)


def outcome(run: Callable[[], None], raised: tuple[type[Exception], ...]) -> str:
    """How a case ends, which raises one of these where it fails."""
    try:
        run()
    except unittest.SkipTest:
        return "left out"
    except raised:
        return "fails"
    return "passes"


def count_table(head: str, columns: Iterable[str], counted: Mapping[str, Counter[str]]) -> str:
    """A Markdown table: for each row how many cases are in each column."""
    columns = list(columns)
    lines = [f"| {head} | {' | '.join(columns)} |", "| --- " * (1 + len(columns)) + "|"]
    return "\n".join(
        [*lines, *(f"| {k} | {' | '.join(str(n[c] or '') for c in columns)} |" for k, n in counted.items())]
    )


def item(text: str, mark: str = "- ") -> str:
    """One item of a Markdown list, wrapped."""
    return textwrap.fill(
        mark + text, 118, subsequent_indent=" " * len(mark), break_long_words=False, break_on_hyphens=False
    )
