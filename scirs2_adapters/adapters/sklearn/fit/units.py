"""Standardized units to step in, where the step size is ours to choose and not the user's.

Coefficients stay those of the data as they came: with means m and spreads s,

coef = s_y / s_x * w    intercept = s_y * b + m_y - coef . m_x

and an optimizer steps w and b, along the derivative of loss / s_y^2. No copy of the data is made, so sparse ones stay
sparse. One rate then suits any data, where a coefficient of 500 would otherwise take 50,000 steps of 0.01.
"""

from __future__ import annotations

import numpy as np
from sklearn.utils.sparsefuncs import mean_variance_axis

from ..argument_names import PUBLIC
from ..state import Data

Arrays = tuple[np.ndarray, np.ndarray]


class Units:
    """Means and spreads of features, and of targets where there are numbers to predict."""

    __module__ = PUBLIC

    def __init__(self, X: Data, y: np.ndarray | None, weights: np.ndarray) -> None:
        self.mean, self.scale = _moments(X, weights)
        self.target_mean, self.target_scale = np.zeros(1), np.ones(1)
        if y is not None:
            self.target_mean, self.target_scale = _moments(y, weights)

    def inside(self, coef: np.ndarray, intercept: np.ndarray) -> Arrays:
        """What is stepped, from what the estimator shows."""
        w = coef * self.scale / self.target_scale[:, np.newaxis]
        b = (intercept + np.atleast_2d(coef) @ self.mean - self.target_mean) / self.target_scale
        return w.reshape(coef.shape).astype(coef.dtype), b.astype(coef.dtype)

    def outside(self, w: np.ndarray, b: np.ndarray) -> Arrays:
        """What the estimator shows, from what is stepped."""
        coef = np.atleast_2d(w) * self.target_scale[:, np.newaxis] / self.scale
        intercept = b * self.target_scale + self.target_mean - coef @ self.mean
        return coef.reshape(w.shape).astype(w.dtype), intercept.astype(w.dtype)

    def gradients(self, coef: np.ndarray, intercept: np.ndarray) -> Arrays:
        """Derivatives by what is stepped, from those by what the estimator shows."""
        inner = np.atleast_2d(coef) - intercept[:, np.newaxis] * self.mean
        inner = inner / self.scale / self.target_scale[:, np.newaxis]
        return inner.reshape(coef.shape), intercept / self.target_scale


def _moments(x: Data, weights: np.ndarray) -> Arrays:
    """Mean and spread of each column by weight. The unit of a column that does not vary is its absolute value."""
    weights = weights.astype(np.float64)
    if not isinstance(x, np.ndarray):
        mean, variance = mean_variance_axis(x.astype(np.float64), axis=0, weights=weights)
    else:
        with np.errstate(all="ignore"):
            x = np.asarray(x, dtype=np.float64)
            mean = np.average(x, axis=0, weights=weights)
            variance = np.average((x - mean) ** 2, axis=0, weights=weights)
    with np.errstate(all="ignore"):
        spread = np.sqrt(variance)
        varies = np.isfinite(spread) & (spread > 1e-7 * np.abs(mean))
        size = np.where(np.isfinite(mean) & (mean != 0), np.abs(mean), 1.0)
    return mean, np.where(varies, spread, size)
