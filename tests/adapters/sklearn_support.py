"""Small data and estimators for the tests of the scikit-learn adapter."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.datasets import make_classification, make_regression

from scirs2_adapters.sklearn import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor

NETWORKS = (MLPClassifier, MLPRegressor)
LINEAR = (LinearClassifier, LinearRegressor)
ESTIMATORS = (*NETWORKS, *LINEAR)


def data(estimator: Any, rows: int = 90, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Three classes, or one target, of six features; `estimator` is a class or an object."""
    made = estimator() if isinstance(estimator, type) else estimator
    if is_classifier(made):
        X, y = make_classification(rows, 6, n_informative=4, n_classes=3, random_state=0)
    else:
        X, y = make_regression(rows, 6, noise=1.0, random_state=0)
        y = y / y.std()
    return X.astype(dtype), y if is_classifier(made) else y.astype(dtype)


def estimator(cls: type, **params: Any) -> Any:
    """A small estimator that runs for as many epochs as it is told, five unless said otherwise."""
    small: dict[str, Any] = {"max_iter": 5, "n_iter_no_change": np.inf, "batch_size": 32, "random_state": 0}
    if cls in NETWORKS:
        small["hidden_layer_sizes"] = (7,)
    return cls(**{**small, **params})


def weights(fitted: Any) -> list[np.ndarray]:
    """All parameters of a fitted estimator."""
    if hasattr(fitted, "coefs_"):
        return [*fitted.coefs_, *fitted.intercepts_]
    return [fitted.coef_, fitted.intercept_]


def memory(fitted: Any) -> dict[str, np.ndarray]:
    """What the optimizer of a fitted estimator remembers, one array for each parameter and slot."""
    saved = fitted.optimizer_.state_dict()
    return {f"{k}/{n}": x for k, slots in saved["state"].items() for n, x in slots.items()}


def assert_same_bits(a: Any, b: Any) -> None:
    """Two fitted estimators have the same parameters, memory and step count."""
    for x, y in zip(weights(a), weights(b), strict=True):
        np.testing.assert_array_equal(x, y, strict=True)
    assert a.optimizer_.steps == b.optimizer_.steps
    first, second = memory(a), memory(b)
    assert first.keys() == second.keys()
    for name, x in first.items():
        np.testing.assert_array_equal(x, second[name], strict=True)


def assert_close(a: Any, b: Any, tolerance: float) -> None:
    """Two fitted estimators have parameters that differ by no more than this, next to their size."""
    for x, y in zip(weights(a), weights(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
