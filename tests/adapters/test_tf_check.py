"""`scirs2 check` on Keras: our optimizers pass it whole, and Keras' own fails where it is known to."""

from __future__ import annotations

import pytest

from scirs2_adapters import get

from .check_support import failures, some_of_ours, visible_rate

pytestmark = pytest.mark.usefixtures("frozen_heap")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    some_of_ours(metafunc, 1)


def test_ours_pass_whole_and_walk_as_their_rule(name: str) -> None:
    assert failures(f"scirs2_adapters.tf:{get(name).__name__}", "keras", name, visible_rate(name)) == {}
