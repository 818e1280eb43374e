"""The steps of the linear estimators: from a batch to a gradient, and what is stepped in its place: standardized units,
averages.

The step itself is the core's `HostOptimizer`: the compiled kernel, or numpy where nothing can be compiled. All
arithmetic is done in the dtype of `X`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.utils.extmath import safe_sparse_dot

from scirs2_adapters.core.numpy_columns import can_step_columns
from scirs2_adapters.core.slots import Leaf

from .averages import Averages
from .lazy_penalty import LazyPenalty
from .losses import RegressorLoss
from .penalties import Strengths, is_proximal, step_with_l1, strengths
from .state import Data, Pair, Stepper
from .units import Units

#: In a regression by default, the weight of a step in their mean grows as its number to this power: the last third of
#: the steps has 70 %.
DEFAULT_GROWTH = 2


class Steps:
    """What a linear estimator does with one batch, and with its coefficients around an epoch."""

    coef_: np.ndarray
    intercept_: np.ndarray
    optimizer_: Stepper
    loss: str
    penalty: str | None
    alpha: float
    l1_ratio: float
    fit_intercept: bool
    average: bool | int
    _params: Pair
    _units: Units | None
    _averages: Averages | None
    _lazy: LazyPenalty | None = None
    _numeric: bool
    _loss: Callable[[np.ndarray, np.ndarray], Pair]
    _loss_of_targets: Callable[[], tuple[RegressorLoss, float]] | None

    def _keeps_units(self, standardize: bool) -> bool:
        """Whether training can go on in the same units, which the optimizer's memory is in."""
        units, form = getattr(self, "_units", None), (self.loss, self.fit_intercept)
        return standardize == (units is not None) and (units is None or units.form in (None, form))

    def _new_units(self, X: Data, y: np.ndarray, weights: np.ndarray) -> Units:
        units = Units(X, weights, self.fit_intercept, (self.loss, self.fit_intercept))
        if self._loss_of_targets is not None:
            units.of_targets(y, weights, *self._loss_of_targets())
        return units

    def _begin_intercept(self, first: bool) -> None:
        """Begin at the mean of the targets where it is known, and at 0 where there is to be no intercept."""
        if first and self._units is not None:
            self.intercept_[...] = self._units.target_mean
        if not self.fit_intercept and self.intercept_.any():
            self.intercept_ = np.zeros_like(self.intercept_)

    @property
    def _growth(self) -> int | None:
        """How the weight of steps grows in the mean to evaluate; None where the last step is evaluated. That of a
        regression by default grows, but with l1, which makes zeros. The loss of classes often has its minimum far away,
        and a mean lags behind.
        """
        by_default = self._numeric and self._units is not None and not self._strengths.l1
        return 0 if self.average else DEFAULT_GROWTH if by_default else None

    @property
    def _strengths(self) -> Strengths:
        return strengths(self.penalty, self.alpha, self.l1_ratio)

    def _show_trained(self) -> None:
        """Let coefficients be those that are trained, while they are."""
        self.optimizer_.resume(self._params)
        if (averages := getattr(self, "_averages", None)) is not None:
            averages.resume(self._params)
            self._show_params()
            if averages.growth != self._growth:
                self._averages = None

    def _add_to_mean(self, seen: int, noisy: bool) -> None:
        """Take in a step, after so many rows. Where the default sees all rows in each, there is no noise to average."""
        growth, averages = self._growth, getattr(self, "_averages", None)
        if growth is None or seen < self.average:
            return
        if averages is None and (noisy or self.average):
            averages = self._averages = Averages(growth)
        if averages is not None:
            averages.add(self._params)

    def _show_evaluated(self) -> None:
        """Let coefficients be those to evaluate: averages, where there are any."""
        self.optimizer_.show()
        if (averages := getattr(self, "_averages", None)) is not None:
            averages.show(self._params)
            self._show_params()

    def _show_params(self) -> None:
        """Let coefficients be those of what is stepped."""
        if self._units is not None:
            self.coef_, self.intercept_ = self._units.outside(*self._params)

    def _learn(self, X: Data, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
        """Take one step on these rows. Return the loss before it, in the units of the step and in the user's."""
        if not isinstance(X, np.ndarray) and self._steps_columns():
            return self._learn_columns(X, y, weights)
        self._settle()
        share = weights / len(weights)
        row_losses, residual = self._loss(self._scores(X), y)
        residual *= share[:, np.newaxis]
        penalty = self._strengths
        slope = safe_sparse_dot(residual.T, X, dense_output=True).reshape(self.coef_.shape) + penalty.l2 * self.coef_
        losses = _sum(row_losses.T @ share, penalty.of(self.coef_))
        loss = float(np.sum(losses))
        self._step(slope, residual.sum(axis=0), penalty.l1, loss)
        return (loss, loss) if self._units is None else (float(np.sum(losses / self._units.loss_scale)), loss)

    def _steps_columns(self) -> bool:
        """Whether a step leaves alone the coefficients of features that are 0 in all rows of a batch, but for a penalty
        that can be taken later.
        """
        if self._units is not None or self.average or self.optimizer_.options.state_dtype is not None:
            return False
        rule, leaf = self.optimizer_.rule, Leaf(self.coef_.shape, self.coef_.dtype.name, "coef_")
        if not can_step_columns(rule, leaf):
            return False
        if not any(self._strengths):
            return True
        if not is_proximal(rule) or rule.maximize:
            return False
        self._lazy = self._lazy or LazyPenalty(self._strengths, self.coef_)
        return self._lazy.can_step(self.optimizer_.learning_rate)

    def _learn_columns(self, X: Data, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
        """What `_learn` does, at the cost of the non-zeros of the batch. The penalty in the loss is that of the
        coefficients with which the epoch began.
        """
        share, (columns, places) = weights / len(weights), np.unique(X.indices, return_inverse=True)
        X = type(X)((X.data, places.astype(X.indptr.dtype), X.indptr), shape=(X.shape[0], len(columns)))
        lazy, rate, skipped = self._lazy, self.optimizer_.learning_rate, self.optimizer_.skipped_steps
        if lazy is not None:
            lazy.settle(columns)
        coef = self.coef_[..., columns]
        row_losses, residual = self._loss(X @ np.atleast_2d(coef).T + self.intercept_, y)
        residual *= share[:, np.newaxis]
        grads = {"coef_": (X.T @ residual).T.reshape(coef.shape) + self._strengths.l2 * coef}
        if self.fit_intercept:
            grads["intercept_"] = residual.sum(axis=0)
        self.optimizer_.step_columns({"coef_": self.coef_, "intercept_": self.intercept_}, columns, grads)
        losses = row_losses.T @ share
        if lazy is not None:
            losses = _sum(losses, lazy.at_first)
            if self.optimizer_.skipped_steps == skipped:
                lazy.stepped(rate, columns)
        loss = float(np.sum(losses))
        return loss, loss

    def _settle(self) -> None:
        """Let coefficients take the penalty that is due."""
        if self._lazy is not None:
            self._lazy.settle_all()
            self._lazy = None

    def _step(self, slope: np.ndarray, intercept_slope: np.ndarray, l1: float, loss: float) -> None:
        """Step by the derivatives of the loss without l1, which is taken care of here."""
        (coef, intercept), units, strength = self._params, self._units, np.asarray(l1)
        if units is not None:
            slope, intercept_slope = units.gradients(slope, intercept_slope)
            strength = units.l1(l1, coef.shape) if l1 else strength
        params, others = {"coef_": coef, "intercept_": intercept}, {"intercept_": intercept_slope}

        def step(slope: np.ndarray) -> bool:
            skipped = self.optimizer_.skipped_steps
            grads = {"coef_": slope, **(others if self.fit_intercept else {})}
            self.optimizer_.step(params, grads, loss)
            return self.optimizer_.skipped_steps == skipped

        if l1:
            rate = self.optimizer_.learning_rate if is_proximal(self.optimizer_.rule) else None
            step_with_l1(rate, strength, coef, slope, step)
        else:
            step(slope)
        self._show_params()

    def _scores(self, X: Data) -> np.ndarray:
        """One column for each output."""
        return safe_sparse_dot(X, np.atleast_2d(self.coef_).T, dense_output=True) + self.intercept_


def _sum(losses: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """The loss of each output with its penalty, or of the only one with those of all coefficients."""
    return losses + (penalty if penalty.shape == losses.shape else penalty.sum())
