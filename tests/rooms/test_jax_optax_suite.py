"""optax's own tests over our factories (see optax_suite.py), and strictly, with reasons, what they find different."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import jax
import pytest

from tests.boundaries.support import ROOT

from . import optax_suite
from .optax_suite import Case

CASES = optax_suite.cases()


def marked(case: Case) -> object:
    """The case, expected to fail where there is a reason for it."""
    reason = optax_suite.reason(case)
    marks = [pytest.mark.xfail(reason=reason, strict=True, raises=optax_suite.EXPECTED)] if reason else []
    return pytest.param(case, id=str(case), marks=marks)


@pytest.mark.slow
@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_optaxs_test_passes(case: Case) -> None:
    case.run()


def test_every_reason_is_needed() -> None:
    unused = [r.reason for r in optax_suite.REASONS if not any(r.covers(case) for case in CASES)]
    assert unused == []


@pytest.fixture
def wide() -> Iterator[None]:
    """optax's test of doubles turns them on for the whole process, and off again only where it passes."""
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.mark.slow
@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("name", optax_suite.listed())
def test_optaxs_test_of_doubles_passes(name: str) -> None:
    for run in optax_suite.tests_of("_src/float64_test.py", "Float64Test").values():
        run(optax_suite.listed()[name], {"learning_rate": 0.1})


@pytest.mark.slow
def test_optaxs_tests_of_sharding_pass_on_eight_devices() -> None:
    """In a process of its own, whose devices they are."""
    command = [sys.executable, "-m", "tests.rooms.optax_suite", "sharding"]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 3 * len(optax_suite.listed())
    assert {k: v for k, v in found.items() if v} == {}
