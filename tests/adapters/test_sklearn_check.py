"""`scirs2 check` on scikit-learn: our estimators pass it whole with any optimizer, and each fault is found."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import SGDRegressor

from scirs2_adapters import get

from .check_support import failures, some_of_ours

pytestmark = pytest.mark.usefixtures("frozen_heap")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    some_of_ours(metafunc, 3)


def test_ours_pass_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for scikit-learn's own checks, which test_sklearn_checks.py runs."""
    monkeypatch.setattr("scirs2_adapters.check.checks.sklearn_estimators.check_estimator", lambda *_, **__: [])
    rate = get(name)().learning_rate
    assert (
        failures(
            "scirs2_adapters.sklearn:MLPClassifier", "sklearn", "", f"optimizer={name!r},learning_rate_init={rate}"
        )
        == {}
    )


class Faulty(SGDRegressor):
    """Takes any learning rate, writes into its rows, and goes on where the last fit ended."""

    _parameter_constraints: dict = {}

    def fit(self, x: np.ndarray, y: np.ndarray) -> SGDRegressor:
        x *= 1.5
        return self.partial_fit(x, y)


def test_faults_are_found() -> None:
    failed = failures(f"{__name__}:Faulty", "sklearn")
    assert {"estimators.rows_unchanged", "estimators.fitted_again", "estimators.own_checks"} <= set(failed)
