"""optax's own tests over our factories (see optax_suite/), and strictly, with reasons, what does not pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest
from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.boundaries.support import ROOT
from tests.xla import flags

from .optax_suite import page
from .optax_suite.cases import Case, cases
from .optax_suite.expected import (
    DIFFERS,
    FAILS_ANYHOW,
    FAILS_ITSELF,
    LEFT_OUT,
    RAISED,
    expected,
    outcome,
)
from .optax_suite.factories import factories, optaxs
from .optax_suite.listed import DOUBLES, SHARDING, doubles, listed_cases
from .wheel_suite import Reason, why

CASES, REASONS = cases(), (*DIFFERS, *LEFT_OUT, *FAILS_ITSELF, *FAILS_ANYHOW)
LISTED = listed_cases()


@pytest.fixture(scope="module", autouse=True)
def _one_compilation_each(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs that are compiled twice, as eager `MultiSteps` does at every step, are compiled once."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture
def lightly(request: pytest.FixtureRequest) -> Iterator[None]:
    """XLA's optimizations are left to the tests that walk to a minimum, and to those of Muon, which compare products
    to the last place: the others look at one step's shapes.
    """
    case: Case = request.getfixturevalue("case")
    numbers = case.test in ("test_optimization", "test_optimizers") or "muon_test.py" in case.file
    jax.config.update("jax_disable_most_optimizations", not numbers)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def marked(case: Case) -> object:
    """The case, expected to fail where there is a reason for it."""
    reason = why(case, (*DIFFERS, *FAILS_ANYHOW))
    marks = [pytest.mark.xfail(reason=reason, strict=True, raises=RAISED)] if reason else []
    return pytest.param(case, id=str(case), marks=marks)


@pytest.mark.slow
@pytest.mark.usefixtures("lightly")
@pytest.mark.parametrize("case", [marked(case) for case in CASES if expected(case) != "left out"])
def test_optaxs_test_passes(case: Case) -> None:
    try:
        case.run()
    except unittest.SkipTest as left_out:
        pytest.fail(f"optax leaves this out, and no reason says so: {left_out}")


@pytest.mark.slow
@pytest.mark.usefixtures("lightly")
@pytest.mark.parametrize("case", [pytest.param(c, id=str(c)) for c in CASES if expected(c) == "left out"])
def test_optax_leaves_out_what_is_said(case: Case) -> None:
    assert outcome(case) == "left out"


@pytest.mark.parametrize("case", [pytest.param(c, id=str(c)) for c in CASES if why(c, (*FAILS_ITSELF, *FAILS_ANYHOW))])
def test_optax_itself_fails_what_is_said(case: Case) -> None:
    assert outcome(case, theirs=True) == "fails"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "match"), factories())
def test_optaxs_test_of_doubles_passes(name: str, match: str | None) -> None:
    doubles(factories()[name, match])


@pytest.mark.slow
def test_optaxs_tests_of_sharding_pass_on_eight_devices_and_fail_with_optax_where_it_is_said() -> None:
    """In a process of its own, whose devices they are."""
    command = [sys.executable, "-m", "tests.adapters.optax_suite", "sharding"]
    settings = {"XLA_FLAGS": flags(8), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    of_ours = [case for case in LISTED if case.file == SHARDING]
    differing = {(test, name, match) for test, name, match, wrong in report["ours"] if wrong}
    assert differing == {(case.test, case.name, case.match) for case in of_ours if expected(case) == "fails"}
    assert len(report["ours"]) == len(of_ours)
    failed = {(test, name) for test, name, _, wrong in report["theirs"] if wrong}
    assert failed == {(case.test, case.name) for case in of_ours if expected(case, theirs=True) == "fails"}


def test_optax_itself_fails_the_test_of_doubles_where_it_is_said() -> None:
    said = {case.name for case in LISTED if case.file == DOUBLES and expected(case, theirs=True) == "fails"}
    for name in said:
        with pytest.raises(AssertionError):
            doubles(optaxs()[name, None])


@pytest.mark.parametrize("reason", REASONS, ids=[f"{(r.tests or ('any',))[0]}-{i}" for i, r in enumerate(REASONS)])
def test_every_reason_is_of_some_case(reason: Reason) -> None:
    assert any(reason.covers(case) for case in (*CASES, *LISTED))


def test_every_optimizer_that_optax_has_too_is_tested() -> None:
    tested = {name for case in CASES for name in case.names}
    assert {name for name, _ in optaxs()} <= tested


def test_the_page_says_what_the_tests_find() -> None:
    assert page.on_page() == page.text(), "python -m tests.adapters.optax_suite write"
