"""Runs of estimators, recorded from their second `partial_fit` on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import scirs2_adapters as s2
from scirs2_adapters.drift import compare
from scirs2_adapters.sklearn import LinearClassifier, MLPClassifier

X = np.sin(np.arange(120.0)).reshape(30, 4)
Y = (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize("cls", [MLPClassifier, LinearClassifier])
def test_two_fits_are_compared(cls: type, tmp_path: Path) -> None:
    for folder, size in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        made = cls(optimizer="adam", random_state=0).partial_fit(X, Y, classes=[0, 1])
        s2.record(made, tmp_path / folder)
        made.partial_fit(X, Y)
        made.partial_fit(size * X, Y)
    drift = compare(tmp_path / "a", tmp_path / "b")
    assert drift.step is None
    assert drift.steps >= 2
    other = compare(tmp_path / "a", tmp_path / "c")
    assert other.step == 1 + drift.steps // 2
    assert other.quantity == "grad"


def test_one_that_was_not_fitted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be an estimator that was fitted"):
        s2.record(MLPClassifier(optimizer="adam"), tmp_path / "a")
