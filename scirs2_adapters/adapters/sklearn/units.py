"""What a linear estimator steps in without an optimizer of the user's."""

from __future__ import annotations

import numpy as np
from sklearn.utils.sparsefuncs import mean_variance_axis

from .argument_names import PUBLIC
from .losses import RegressorLoss
from .state import Data, Pair, Saved


class Units:
    """Means and spreads of features, and of targets where there are numbers to predict: standardized units to step in,
    where the step size is ours to choose and not the user's.

    Coefficients stay those of the data as they came: with means m and spreads s,

    coef = s_y / s_x * w    intercept = s_y * b + m_y - coef . m_x

    and an optimizer steps w and b, along the derivative of loss / l; l is s_y^2 for squared errors. No copy of the data
    is made, so sparse ones stay sparse. One rate then suits any data, where a coefficient of 500 would otherwise take
    50,000 steps of 0.01. Without an intercept the means are 0. `form` is what of the estimator the units depend on.
    """

    __module__ = PUBLIC
    form: tuple[object, ...] | None = None

    def __init__(self, X: Data, weights: np.ndarray, centred: bool, form: tuple[object, ...]) -> None:
        self.mean, self.scale = _moments(X, weights, centred)
        self.target_mean, self.target_scale, self.loss_scale = np.zeros(1), np.ones(1), np.ones(1)
        self.form = form

    def of_targets(self, y: np.ndarray, weights: np.ndarray, loss: RegressorLoss, parameter: float) -> None:
        """Take the units of these targets, too."""
        centred = bool(self.form and self.form[-1])
        units = loss.units(*_moments(y, weights, centred), parameter)
        self.target_mean, self.target_scale, self.loss_scale = units._replace(mean=units.mean * centred)

    def inside(self, coef: np.ndarray, intercept: np.ndarray) -> Pair:
        """The parameters that are stepped, from those that the estimator shows."""
        w = coef * self.scale / self.target_scale[:, np.newaxis]
        b = (intercept + np.atleast_2d(coef) @ self.mean - self.target_mean) / self.target_scale
        return w.reshape(coef.shape).astype(coef.dtype), b.astype(coef.dtype)

    def outside(self, w: np.ndarray, b: np.ndarray) -> Pair:
        """The parameters that the estimator shows, from those that are stepped."""
        coef = np.atleast_2d(w) * self.target_scale[:, np.newaxis] / self.scale
        intercept = b * self.target_scale + self.target_mean - coef @ self.mean
        return coef.reshape(w.shape).astype(w.dtype), intercept.astype(w.dtype)

    def gradients(self, coef: np.ndarray, intercept: np.ndarray) -> Pair:
        """Derivatives by the parameters that are stepped, from those by the parameters that the estimator shows."""
        inner = np.atleast_2d(coef) - intercept[:, np.newaxis] * self.mean
        size = self.target_scale / self.loss_scale
        return (inner / self.scale * size[:, np.newaxis]).reshape(coef.shape), intercept * size

    def l1(self, strength: float, shape: tuple[int, ...]) -> np.ndarray:
        """The l1 factor of the parameters that are stepped, from that of the coefficients."""
        size = strength * self.target_scale / self.loss_scale
        return (np.ones(shape).reshape(-1, shape[-1]) * size[:, np.newaxis] / self.scale).reshape(shape)

    def __setstate__(self, state: Saved) -> None:
        vars(self).update({"loss_scale": state["target_scale"] ** 2} | state)


def _moments(x: Data, weights: np.ndarray, centred: bool) -> Pair:
    """Mean and spread of each column by weight; the spread is around 0 if not `centred`, and the mean then 0. The unit
    of a column that does not vary is its absolute value.
    """
    weights = weights.astype(np.float64)
    if not isinstance(x, np.ndarray):
        mean, variance = mean_variance_axis(x.astype(np.float64), axis=0, weights=weights)
    else:
        with np.errstate(all="ignore"):
            x = np.asarray(x, dtype=np.float64)
            mean = np.average(x, axis=0, weights=weights)
            variance = np.average((x - mean) ** 2, axis=0, weights=weights)
    with np.errstate(all="ignore"):
        if not centred:
            mean, variance = np.zeros_like(mean), variance + mean**2
        spread = np.sqrt(variance)
        varies = np.isfinite(spread) & (spread > 1e-7 * np.abs(mean))
        size = np.where(np.isfinite(mean) & (mean != 0), np.abs(mean), 1.0)
    return mean, np.where(varies, spread, size)
