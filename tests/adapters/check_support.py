"""What the tests of `scirs2 check` share: which of our optimizers a run takes, and what failed."""

from __future__ import annotations

import os
import zlib

import pytest

from scirs2_adapters import get, names
from scirs2_adapters.check.run import check
from tests import sampling


def some_of_ours(metafunc: pytest.Metafunc, count: int) -> None:
    """A test's `name` over all our optimizers; in a sampled run over so many, others each week: a framework that
    compiles takes seconds for each.
    """
    if "name" in metafunc.fixturenames:
        drawn = sorted(names(), key=lambda name: zlib.crc32(f"{os.environ[sampling.SEED]} {name}".encode()))
        metafunc.parametrize("name", drawn[:count] if sampling.samples(metafunc.config) else names())


def visible_rate(name: str, word: str = "learning_rate") -> str:
    """Arguments by which each step moves numbers of float32: the rate 1 for what begins with a millionth of it, which
    at 1e-3, the default of Mechanic's base, is lost beside a parameter of 0.5.
    """
    return f"{word}=1.0" if get(name).first_step else ""


def failures(path: str, framework: str, against: str = "", arguments: str = "") -> dict[str, str]:
    """The checks that fail, and how."""
    report = check(path, framework, against=against, arguments=arguments)
    assert sum(outcome.status == "pass" for outcome in report.outcomes) > 15
    return {outcome.name: f"expected {outcome.expected}; came {outcome.came}" for outcome in report.failed}
