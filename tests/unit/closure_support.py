"""Two losses and a parameter in two parts, for the tests of optimizers that evaluate the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize

Array = np.ndarray

rng = np.random.default_rng(0)
ROWS, LABELS = rng.normal(size=(60, 6)), (rng.normal(size=60) > 0) * 2.0 - 1.0


def logistic(w: Array) -> tuple[float, Array]:
    """A smooth convex loss: logistic regression with a little L2."""
    margins = LABELS * (ROWS @ w)
    slopes = -LABELS / (1 + np.exp(margins))
    return float(np.logaddexp(0, -margins).mean() + 0.05 * w @ w), ROWS.T @ slopes / len(ROWS) + 0.1 * w


def rosenbrock(w: Array) -> tuple[float, Array]:
    return float(scipy.optimize.rosen(w)), scipy.optimize.rosen_der(w)


def model(loss: Callable[[Array], tuple[float, Array]], start: Array) -> tuple[dict[str, Array], Callable[[], Any]]:
    """A parameter in two parts, and a closure over them."""
    params = {"a": start[:2].copy(), "b": start[2:].reshape(2, -1).copy()}

    def closure() -> tuple[float, dict[str, Array]]:
        closure.calls += 1  # type: ignore[attr-defined]
        value, g = loss(joined(params))
        return value, {"a": g[:2], "b": g[2:].reshape(2, -1)}

    closure.calls = 0  # type: ignore[attr-defined]
    return params, closure


def joined(params: dict[str, Array]) -> Array:
    return np.concatenate([params["a"], params["b"].ravel()])
