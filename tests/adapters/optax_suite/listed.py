"""optax's tests that run over a list of optimizers instead of over cases: over every factory of ours, or of optax's.

The tests of sharding need eight devices, which a process has to have from its start: `python -m
tests.adapters.optax_suite sharding`. optax compares versions as strings, by which JAX 0.10 is older than 0.7.2, and
leaves most of them out; here they run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from .cases import LISTED, Case, loaded
from .factories import Factory, factories

DOUBLES, SHARDING = LISTED
SUITES = {DOUBLES: "Float64Test", SHARDING: "ShardingTest"}


def tests_of(file: str) -> dict[str, Callable[..., None]]:
    """The tests of a suite that run over its list of optimizers, bound to a test case."""
    suite = getattr(loaded(file), SUITES[file])
    tests = {k: f for k, f in vars(suite).items() if hasattr(f, "noted") and len(f.noted[1]) == 1}
    return {k: functools.partial(f, suite(k)) for k, f in tests.items()}


def listed_cases() -> list[Case]:
    """One case for each of these tests and each factory of ours. They are only counted: what runs is below."""
    made = functools.partial(Case, words=(), args=(), keywords={})
    return [made(f, SUITES[f], test, (n,), m) for f in LISTED for test in tests_of(f) for n, m in factories()]


def doubles(make: Factory) -> None:
    """float32 and float64 in one tree. optax's test turns doubles off again only where it passes."""
    try:
        for run in tests_of(DOUBLES).values():
            run(make, {"learning_rate": 0.1})
    finally:
        jax.config.update("jax_enable_x64", False)


class _Recent:
    """JAX under a version that sorts behind all others as a string."""

    __version__ = "9"

    def __getattr__(self, name: str) -> Any:
        return getattr(jax, name)


def sharding(made: Mapping[tuple[str, str | None], Factory]) -> list[tuple[str, str, str | None, str]]:
    """For every test and every factory: the test, its name, its match, and empty or what went wrong."""
    rows = []
    vars(loaded(SHARDING))["jax"] = _Recent()
    for test, run in tests_of(SHARDING).items():
        for (name, match), make in made.items():
            try:
                run(make(1.0))
                wrong = ""
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            rows.append((test, name, match, wrong))
    return rows
