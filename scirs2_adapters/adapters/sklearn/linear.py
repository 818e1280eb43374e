"""The two linear estimators: what their targets are, their losses, and what they predict."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from numbers import Real
from typing import Self

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import Tags, compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import column_or_1d

from scirs2_adapters.core import Rule
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.step.options import StateDtype

from .argument_names import PUBLIC, explains_parameters
from .fit import Linear
from .losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, Losses, RegressorLoss, both, log_softmax
from .state import Data


def _has_proba(estimator: LinearClassifier) -> bool:
    known = CLASSIFIER_LOSSES.get(estimator.loss)
    if known is not None and known.proba is not None:
        return True
    named = ", ".join(repr(name) for name, loss in CLASSIFIER_LOSSES.items() if loss.proba is not None)
    raise AttributeError(f"Probabilities are known for the losses {named}, and not for loss={estimator.loss!r}.")


@explains_parameters
class LinearClassifier(ClassifierMixin, Linear):
    """A linear classifier, trained by any optimizer: logistic regression, a support vector machine and others.

    loss = mean over rows of l(s, y), s = X coef_^T + intercept_, plus alpha * penalty(coef_)

      "log_loss"        -log softmax(s)[y]
      "hinge"           max(0, 1 - z)
      "squared_hinge"   max(0, 1 - z)^2
      "modified_huber"  max(0, 1 - z)^2 where z >= -1, else -4 z

      "l2"          |coef_|_2^2 / 2
      "l1"          |coef_|_1
      "elasticnet"  (1 - l1_ratio) / 2 * |coef_|_2^2 + l1_ratio * |coef_|_1

    Logistic regression of several classes is multinomial. In the others z is the score times 1 for the class of the row
    and -1 for any other: each class is told from all others by itself, as in `SGDClassifier`.

    Arguments:
      optimizer: a name, an optimizer such as `AdamW(1e-3)`, or None for Adam with a rate of 0.01 and less that steps as
        if features, and the targets of a regression, were standardized; `coef_` and `loss_` are those of the data.
      loss: one of those above. `predict_proba` is there for "log_loss" and "modified_huber".
      penalty: "l2", "l1", "elasticnet" or None. With an l1 part coefficients become exactly 0: by soft thresholding
        under SGD without momentum, by orthant-wise steps under other rules that step each number by itself; a rule that
        does not, or that remembers parameters, is refused.
      alpha, l1_ratio: strength of the penalty, >= 0, and the part of l1 in "elasticnet", in [0, 1].
      fit_intercept: whether there is an intercept. Neither the penalty nor an optimizer's `weight_decay` acts on it.
      class_weight: factors of the loss by class: a dict, or "balanced" for the same weight of all classes together.
      average: let coefficients be their mean over all steps, or over those from the row of this number on.
      batch_size: rows of a step; "auto" is a hundredth of all, but no more than 1024 and no less than 64, or all.
      max_iter, tol, n_iter_no_change: most epochs. An epoch that is not better than the best by `tol` is one without
        progress; more than `n_iter_no_change` of them in a row end the training. `tol=None` trains for all epochs.
      early_stopping, validation_fraction: set rows apart, judge progress by the score on them, keep the best epoch.
      shuffle, random_state: the order of rows; a batch of all rows is never shuffled.
      warm_start: `fit` goes on from the last one, the optimizer's memory included.
      skip_nonfinite: leave out and count, in `optimizer_.skipped_steps`, a step whose gradient is not finite.
      state_dtype: how the optimizer's memory is stored: None as `coef_` is, "bfloat16", "int8", or names by slot.
      learning_rate, power_t, warmup: how the learning rate changes, as in our `MLPClassifier`.

    Example:
      >>> from scirs2_adapters.sklearn import LinearClassifier
      >>> LinearClassifier("lion").fit([[0.0], [1.0]] * 20, [0, 1] * 20).predict([[0.9]])
      array([1])
    """

    __module__ = PUBLIC
    _numeric = False
    _loss_of_targets = None
    classes_: np.ndarray
    _parameter_constraints = {
        **Linear._parameter_constraints,
        "loss": [StrOptions(set(CLASSIFIER_LOSSES))],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        optimizer: Rule | str | None = None,
        *,
        loss: str = "log_loss",
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        class_weight: Mapping[Hashable, float] | str | None = None,
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

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Data, y: Data, sample_weight: Data = None, classes: Data = None) -> Self:
        """One epoch on these rows; the first call needs all `classes`."""
        _check_partial_fit_first_call(self, classes)
        return self._train(X, y, sample_weight, partial=True)

    def _targets(self, y: np.ndarray, dtype: np.dtype, known: bool) -> tuple[np.ndarray, tuple[int, ...]]:
        """The index of each row's class, and the outputs: one for two classes, else one for each."""
        check_classification_targets(y)
        classes = self.classes_ if known else np.unique(y)
        if unknown := np.setdiff1d(y, classes).tolist():
            raise ValueError(f"`y` has classes that were not there before: {unknown}. Known are {classes.tolist()}.")
        if len(classes) < 2:
            text = f"`{type(self).__name__}.fit` needs rows of more than one class. Received: {classes.tolist()}."
            raise ValueError(text)
        self.classes_ = classes
        return np.searchsorted(classes, y), (1 if len(classes) == 2 else len(classes),)

    def _weighted(self, y: np.ndarray, weights: np.ndarray, partial: bool) -> np.ndarray:
        """The weight of each row times that of its class, which scikit-learn does not divide by their mean either."""
        call, classes = type(self).__name__, self.classes_
        if self.class_weight is None:
            return weights
        if not isinstance(self.class_weight, str):
            by_class = compute_class_weight(self.class_weight, classes=classes, y=classes)
        elif partial:
            worded = "must be a dict for `partial_fit`, which does not see all rows"
            raise bad_value(call, "class_weight", worded, self.class_weight, "Compute it by `compute_class_weight`.")
        else:
            sums = np.bincount(y, weights, len(classes))
            by_class = weights.sum() / len(classes) / np.where(sums > 0, sums, np.inf)
        weighted = weights * by_class[y].astype(weights.dtype)
        if not np.all(by_class >= 0) or not weighted.any():
            raise bad_value(call, "class_weight", "must be at least 0, and not 0 for all rows", self.class_weight)
        return weighted

    def _loss(self, scores: np.ndarray, y: np.ndarray) -> Losses:
        """The losses of each row, and their derivatives by its scores."""
        return CLASSIFIER_LOSSES[self.loss].of(scores, y)

    def _score(self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        return float(accuracy_score(y, np.argmax(both(scores), axis=1), sample_weight=weights))

    def decision_function(self, X: Data) -> np.ndarray:
        """The score of each class; where there are two, that of the second alone, (n,)."""
        scores = self._checked_scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Data) -> np.ndarray:
        """The class of the largest score of each row, the most probable one."""
        scores = self._checked_scores(X)
        return self.classes_[np.argmax(both(scores), axis=1)]

    @available_if(_has_proba)
    def predict_log_proba(self, X: Data) -> np.ndarray:
        """The logarithm of `predict_proba`; of "modified_huber" it can be -inf."""
        if self.loss == "log_loss":
            return log_softmax(both(self._checked_scores(X)))
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    @available_if(_has_proba)
    def predict_proba(self, X: Data) -> np.ndarray:
        """The probability of each class, in the order of `classes_`: softmax of the scores, for "modified_huber"
        (clip(score, -1, 1) + 1) / 2, of several classes divided by its sum.
        """
        of_scores = CLASSIFIER_LOSSES[self.loss].proba
        assert of_scores is not None
        return of_scores(self._checked_scores(X))


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
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
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
