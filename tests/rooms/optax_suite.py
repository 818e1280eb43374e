"""optax's own tests, which come in its wheel, with our factories in place of optax's.

A test module of optax is loaded a second time, under another name, with absl's decorators replaced by ones that only
note their cases: pytest then runs each case as a test of its own. What such a module calls `alias` or `contrib` is
replaced by a stand-in that has our factories where we have the name.

A rule runs as typed, `adamw(...)`; where `match="optax"` changes its formula or its defaults it runs a second time so.
Both are promises: the first one of a good optimizer in optax's clothes, the second one of optax's own.

`python -m tests.rooms.optax_suite` prints the table of docs/jax.md; with `sharding` it runs the tests that need
eight devices, which a process has to have from its start.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
import sys
import unittest
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import optax
from absl.testing import parameterized
from optax import contrib
from optax._src import alias

import scirs2_adapters
from scirs2_adapters import jax as room

Factory = Callable[..., optax.GradientTransformationExtraArgs]

#: What optax has under a name of its own and we as an argument: optax's name -> (rule, arguments).
UNDER_ANOTHER_NAME: dict[str, tuple[str, dict[str, Any]]] = {
    "amsgrad": ("adam", {"amsgrad": True}),
    "nadam": ("adam", {"nesterov": True}),
    "nadamw": ("adamw", {"nesterov": True}),
}
#: In optax's tests, what is not the name of an optimizer.
NICKNAMES = {"sgd_mom": "sgd"}


@dataclass(frozen=True)
class Case:
    """One case of one of optax's tests. `name` is optax's name of the optimizer."""

    suite: str
    test: str
    name: str
    match: str | None
    given: dict[str, Any] = field(hash=False)

    def __str__(self) -> str:
        given = (v for k, v in self.given.items() if k != "opt_name" and not (k.startswith("wrapper") and v is None))
        words = (",".join(f"{k}={v}" for k, v in x.items()) if isinstance(x, dict) else _word(x) for x in given)
        start = (Path(self.suite).stem.split("_")[0] or "contrib", self.test, self.name, self.match)
        return "-".join(filter(None, (*start, *words)))

    def run(self) -> None:
        """Runs it as optax does: passes, raises, or raises `unittest.SkipTest`."""
        module = loaded(self.suite)
        for word in ("alias", "contrib"):
            if hasattr(module, word):
                setattr(module, word, Ours({"alias": alias, "contrib": contrib}[word], self.match))
        suite = getattr(module, SUITES[self.suite])
        getattr(suite, self.test)(suite(self.test), **self.given)


def _word(x: Any) -> str:
    return str(getattr(x, "__name__", x)).removeprefix("_setup_")


SUITES = {"_src/alias_test.py": "AliasTest", "contrib/_common_test.py": "ContribTest"}


class Ours:
    """A module of optax's with our factories where we have the name."""

    def __init__(self, theirs: Any, match: str | None) -> None:
        self.theirs, self.match = theirs, match

    def __getattr__(self, name: str) -> Any:
        theirs = getattr(self.theirs, name)
        return ours(name, self.match) if meant(name)[0] else theirs


def meant(name: str) -> tuple[str, dict[str, Any]]:
    """The rule that we have for an optimizer of optax's, and its arguments; no rule if we have none."""
    own = name in scirs2_adapters.names()
    return (name, {}) if own else UNDER_ANOTHER_NAME.get(name, ("", {}))


def ours(name: str, match: str | None) -> Factory:
    """Our factory for a name of optax's."""
    rule, given = meant(name)
    given = given | ({"match": match} if match else {})
    made = getattr(room, rule)
    return functools.partial(made, **given) if given else made


def matches(name: str) -> tuple[str | None, ...]:
    """How a rule runs, if we have it: as typed, and as optax's where that is another formula or has other defaults."""
    rule, given = meant(name)
    if not rule:
        return ()
    return (None, "optax") if given or scirs2_adapters.get(rule).matches.get("optax") else (None,)


@functools.cache
def loaded(file: str) -> ModuleType:
    """A test module of optax's whose cases are noted instead of made."""
    path = Path(optax.__file__).parent / file
    spec = importlib.util.spec_from_file_location(f"optax_suite_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    kept = {name: getattr(parameterized, name) for name in ("product", "named_parameters")}
    try:
        for name in kept:
            setattr(parameterized, name, _noting)
        spec.loader.exec_module(module)
    finally:
        for name, decorator in kept.items():
            setattr(parameterized, name, decorator)
    return module


def _noting(*sequences: Any, **grid: Any) -> Callable[[Any], Any]:
    def note(test: Any) -> Any:
        test.noted = sequences, grid
        return test

    return note


#: Tests that take a wrapper and do not use it: a case that differs from another in its wrapper alone is left out.
UNWRAPPED = (
    "test_state_shape_dtype_shard_stability",
    "test_optimizers_accept_learning_rate_schedule_if_type_annotated_as_such",
)


def cases() -> list[Case]:
    """Every case of the suites about an optimizer that we have, once."""
    found: dict[str, Case] = {}
    for suite, cls in SUITES.items():
        for test, function in vars(getattr(loaded(suite), cls)).items():
            for given in _product(*getattr(function, "noted", ((), {}))):
                name = str(given.get("opt_name"))
                name = NICKNAMES.get(name, name)
                for case in [Case(suite, test, name, m, given) for m in matches(name)]:
                    free = test in UNWRAPPED or not given.get("wrap", True)
                    bare = {k: v for k, v in given.items() if not (free and k.startswith("wrapper"))}
                    found.setdefault(str(replace(case, given=bare)), case)
    return list(found.values())


def _product(sequences: tuple[Any, ...], grid: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for chosen in itertools.product(*sequences, *([{k: v} for v in values] for k, values in grid.items())):
        yield {k: v for part in chosen for k, v in part.items()}


# -- the tests that run over a list of optimizers instead of a grid: every rule of ours takes part


def listed() -> dict[str, Factory]:
    """Every factory of ours, by the name of its test."""
    found = {(name, m): ours(name, m) for name in scirs2_adapters.names() for m in matches(name)}
    return {"-".join(filter(None, key)): made for key, made in found.items()}


def tests_of(file: str, cls: str) -> dict[str, Callable[..., None]]:
    """The tests of a suite that run over optax's list of optimizers and nothing else, bound to a test case."""
    suite = getattr(loaded(file), cls)
    found = {k: f for k, f in vars(suite).items() if hasattr(f, "noted") and len(f.noted[0]) == 1}
    return {k: functools.partial(f, suite(k)) for k, f in found.items()}


class _Recent:
    """JAX under a version that sorts behind "0.8.1" as a string, as optax compares it: "0.10" does not."""

    __version__ = "9"

    def __getattr__(self, name: str) -> Any:
        return getattr(jax, name)


def sharding() -> dict[str, str]:
    """The outcome of every sharding test for every rule: empty, or what went wrong."""
    found = {}
    loaded("_src/sharding_test.py").jax = _Recent()
    for test, run in tests_of("_src/sharding_test.py", "ShardingTest").items():
        for name, make in listed().items():
            try:
                run(make(1.0))
                found[f"{test}-{name}"] = ""
            except Exception as error:
                found[f"{test}-{name}"] = f"{type(error).__name__}: {error}"
    return found


# -- what differs, and why


@dataclass(frozen=True)
class Reason:
    """Why some cases fail, as data: the cases are of this test, and `concerns` them."""

    test: str
    concerns: Callable[[Case], bool]
    reason: str

    def covers(self, case: Case) -> bool:
        """Whether the case is one of these."""
        return case.test == self.test and self.concerns(case)


def _decays(case: Case) -> bool:
    """Ours as typed, where optax's decays less by default, and the distance to the minimum shows it."""
    return case.name == "adamw" and case.match is None and case.given["target"].__name__ == "_setup_rosenbrock"


REASONS = (
    Reason(
        "test_optimizers_can_be_wrapped_in_inject_hyperparams",
        lambda c: c.name == "adafactor",
        "the test names an argument that ours has not, min_dim_size_to_factor: every matrix is factored, as in PyTorch",
    ),
    Reason(
        "test_explicit_dtype",
        lambda c: c.given["params_dtype"] == "complex64" and c.given["state_dtype"] in ("bfloat16", "float32"),
        "a moment of complex gradients is complex: in a real dtype, which optax takes, its imaginary part is lost",
    ),
    Reason(
        "test_optimization",
        lambda c: _decays(c) and c.given["dtype"].__name__ == "complex64",
        "AdamW's default decay is 1e-2, PyTorch's and the paper's, and holds the parameters 0.05 from the minimum",
    ),
    Reason(
        "test_optimizers",
        lambda c: _decays(c) and c.given["wrapper_name"] == "mechanize",
        "the same decay, with a learning rate of 1 under mechanize",
    ),
)


EXPECTED = (AssertionError, ValueError)


def reason(case: Case) -> str | None:
    """Why the case is expected to fail, or None."""
    return next((r.reason for r in REASONS if r.covers(case)), None)


def table(failed: list[str]) -> Iterator[str]:
    """For every optimizer of optax's that we have: cases, passed, left out by optax itself, different with a reason."""
    yield "| optimizer | cases | pass | optax leaves out | differ |"
    yield "| --- | --- | --- | --- | --- |"
    rows: dict[str, Counter[str]] = {}
    for case in cases():
        row = rows.setdefault(f"{case.name}, `match={case.match!r}`" if case.match else case.name, Counter())
        try:
            case.run()
            row["pass"] += 1
        except unittest.SkipTest:
            row["left out"] += 1
        except Exception as error:
            row["differ"] += 1
            if reason(case) is None:
                failed.append(f"{case}: {type(error).__name__}: {error}")
    for name, row in sorted(rows.items()):
        yield f"| {name} | {row.total()} | {row['pass']} | {row['left out'] or ''} | {row['differ'] or ''} |"


def main() -> None:
    """What the head of this file says."""
    failed: list[str] = []
    print(json.dumps(sharding()) if sys.argv[1:] == ["sharding"] else "\n".join(table(failed)))
    if failed:
        sys.exit("\n\n".join(failed))


if __name__ == "__main__":
    main()
