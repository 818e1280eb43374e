"""A pytest plugin for `python -m tests.peers`: it runs the tests that note a walk, and keeps what they note."""

from __future__ import annotations

from typing import Any

import pytest

from .problem import WALK

#: By optimizer and by what it was compared with: the number of cases, and the largest gap.
SEEN: dict[str, dict[str, dict[str, Any]]] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if "record_property" in getattr(item, "fixturenames", ())]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        for name, peer, gap in (value for key, value in report.user_properties if key == WALK):
            row = SEEN.setdefault(name, {}).setdefault(peer, {"cases": 0, "gap": 0.0})
            row["cases"], row["gap"] = row["cases"] + 1, max(row["gap"], float(f"{gap:.1e}"))
