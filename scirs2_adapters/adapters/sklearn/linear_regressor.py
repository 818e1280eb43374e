"""The linear regressor: its losses, what its targets are, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Self

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions

from scirs2_adapters.core import Rule
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.step.options import StateDtype

from .argument_names import PUBLIC, explains_parameters
from .fit import Linear
from .losses import REGRESSOR_LOSSES, Losses, RegressorLoss
from .state import Data


@explains_parameters
class LinearRegressor(RegressorMixin, MultiOutputMixin, Linear):
    """Linear regression of one or more targets, trained by any optimizer: least squares, quantiles, counts and others.

    loss = mean over rows of the sum over targets of l, plus alpha * penalty(coef_), with r = X coef_^T + intercept_ - y

      "squared_error"                r^2 / 2
      "huber"                        r^2 / 2 where |r| <= epsilon, else epsilon |r| - epsilon^2 / 2
      "epsilon_insensitive"          max(0, |r| - epsilon)
      "squared_epsilon_insensitive"  max(0, |r| - epsilon)^2
      "quantile"                     (1 - quantile) r where r >= 0, else -quantile r
      "poisson"                      exp(s) - y s, with s = X coef_^T + intercept_; `predict` gives exp(s)

    Most optimizers move a coefficient by about the learning rate in a step, however large it is to become: beside an
    optimizer of yours, scale `X` and `y` or choose a learning rate to match. `optimizer=None` does it by itself; its
    coefficients are a mean over all steps in which later ones count more, and it takes 1000 steps or half of `max_iter`
    at least.

    Arguments:
      loss: one of those above. The targets of "poisson" are at least 0.
      epsilon: of the three losses that have it, in units of the targets, >= 0.
      quantile: which quantile "quantile" predicts, in (0, 1).
      All others are as in `LinearClassifier`.

    Example:
      >>> from scirs2_adapters.sklearn import LinearRegressor
      >>> LinearRegressor(alpha=0.0, tol=1e-7).fit([[0.0], [1.0]] * 20, [0.0, 0.5] * 20).coef_.round(1)
      array([0.5])
    """

    __module__ = PUBLIC
    _numeric = True
    _parameter_constraints = {
        **Linear._parameter_constraints,
        "loss": [StrOptions(set(REGRESSOR_LOSSES))],
        "epsilon": [Interval(Real, 0, None, closed="left")],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(
        self,
        optimizer: Rule | str | None = None,
        *,
        loss: str = "squared_error",
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        epsilon: float = 0.1,
        quantile: float = 0.5,
        average: bool | int = False,
        batch_size: int | str = "auto",
        max_iter: int = 1000,
        tol: float | None = 1e-4,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 10,
        skip_nonfinite: bool = False,
        state_dtype: StateDtype = None,
        learning_rate: str | Callable[[int], float] = "constant",
        power_t: float = 0.5,
        warmup: float = 0.0,
    ) -> None:
        self.__dict__.update({name: value for name, value in locals().items() if name != "self"})

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Data, y: Data, sample_weight: Data = None) -> Self:
        """One epoch on these rows."""
        return self._train(X, y, sample_weight, partial=True)

    def _targets(self, y: np.ndarray, dtype: np.dtype, known: bool) -> tuple[np.ndarray, tuple[int, ...]]:
        """Targets as columns, and their number: () for a single one, whose `coef_` is a vector."""
        if known and hasattr(self, "coef_") and y.shape[1:] != (before := self.coef_.shape[:-1]):
            raise ValueError(f"`y` must have the targets of the last fit, shape {before}. Received: {y.shape[1:]}.")
        if REGRESSOR_LOSSES[self.loss].refuses(y):
            worded = f"must not be below 0 with loss={self.loss!r}"
            raise bad_value(f"{type(self).__name__}.fit", "y", worded, float(y.min()))
        return y.reshape(len(y), -1).astype(dtype, copy=False), y.shape[1:]

    def _weighted(self, y: np.ndarray, weights: np.ndarray, partial: bool) -> np.ndarray:
        return weights

    def _loss_of_targets(self) -> tuple[RegressorLoss, float]:
        """The loss, and the argument that it has."""
        loss = REGRESSOR_LOSSES[self.loss]
        return loss, getattr(self, loss.parameter) if loss.parameter else 0.0

    def _loss(self, scores: np.ndarray, y: np.ndarray) -> Losses:
        """The loss of each row and target, and its derivative by the score."""
        loss, parameter = self._loss_of_targets()
        return loss.of(scores, y, parameter)

    def _score(self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        return float(r2_score(y, REGRESSOR_LOSSES[self.loss].predicted(scores), sample_weight=weights))

    def predict(self, X: Data) -> np.ndarray:
        """The predicted targets, (n,) where there is one."""
        predicted = REGRESSOR_LOSSES[self.loss].predicted(self._checked_scores(X))
        return predicted[:, 0] if self.coef_.ndim == 1 else predicted
