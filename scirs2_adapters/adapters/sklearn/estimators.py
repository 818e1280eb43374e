"""The four estimators, and the function that turns scikit-learn's own networks into ours."""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
from sklearn import neural_network
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin, _fit_context, clone
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import column_or_1d

from scirs2_adapters.core import Rule
from scirs2_adapters.core.errors import bad_type

from .argument_names import LEARNING_RATE_INIT, PUBLIC, explains_parameters
from .fit import Linear
from .network import CONSTRAINTS, Network, constructor
from .state import Data


@explains_parameters
class MLPClassifier(Network, neural_network.MLPClassifier):
    """scikit-learn's `MLPClassifier`, trained by any optimizer.

    Arguments:
      optimizer: None is scikit-learn's own `solver`, bit for bit; else a name, or an optimizer such as `AdamW(1e-3)`.
      learning_rate_init: of an optimizer given by name; None is its default, and 0.001 with `optimizer=None`.
      learning_rate: beside an optimizer, how its learning rate changes: "constant", "invscaling" and "adaptive" as with
        scikit-learn's `solver="sgd"`, "cosine" to 0 at the end of `max_iter` epochs, or a function of the number of
        steps taken before, such as one of `scirs2_adapters.core.schedules`, which gives the learning rate itself.
      warmup: a number of first steps, or a fraction of all in [0, 1), in which the learning rate rises.
      decay_biases: whether the optimizer's `weight_decay` acts on biases.
      learning_rate_by_layer: factors of the learning rate, one for each layer from the input on, or a number: the last
        layer has the whole rate, and each layer before it that much of the next one's.
      skip_nonfinite: leave out and count, in `optimizer_.skipped_steps`, a step whose gradient is not finite.
      state_dtype: how the optimizer's memory is stored: None as the weights are, "bfloat16", "int8", or names by slot.
      All others are scikit-learn's; those of its own solvers are refused beside an optimizer. `alpha` is L2 decay
      inside the loss; an optimizer's `weight_decay` is its own. `validation_loss_curve_` stands beside
      `validation_scores_`, and scikit-learn's callbacks are called where it has them.

    Example:
      >>> from scirs2_adapters.sklearn import MLPClassifier, Lion
      >>> clf = MLPClassifier(optimizer=Lion(learning_rate=3e-4), max_iter=20)
    """

    __module__ = PUBLIC
    _parameter_constraints = {**neural_network.MLPClassifier._parameter_constraints, **CONSTRAINTS}
    __init__ = constructor(neural_network.MLPClassifier)


@explains_parameters
class MLPRegressor(Network, neural_network.MLPRegressor):
    """scikit-learn's `MLPRegressor`, trained by any optimizer. Arguments as in `MLPClassifier`.

    Example:
      >>> from scirs2_adapters.sklearn import MLPRegressor
      >>> reg = MLPRegressor(optimizer="adamw", learning_rate_init=1e-2)
    """

    __module__ = PUBLIC
    _parameter_constraints = {**neural_network.MLPRegressor._parameter_constraints, **CONSTRAINTS}
    __init__ = constructor(neural_network.MLPRegressor)


def with_optimizer(estimator: BaseEstimator, optimizer: Rule | str | None) -> MLPClassifier | MLPRegressor:
    """An unfitted network with the parameters of this one and another optimizer; the one given is left alone.

    scikit-learn's default step size of 0.001 counts as not given, so that the optimizer's own holds.

    >>> from sklearn.neural_network import MLPClassifier
    >>> from scirs2_adapters.sklearn import with_optimizer
    >>> with_optimizer(MLPClassifier(max_iter=20), "lion")
    MLPClassifier(max_iter=20, optimizer='lion')
    """
    counterparts = {neural_network.MLPClassifier: MLPClassifier, neural_network.MLPRegressor: MLPRegressor}
    cls = counterparts.get(type(estimator), type(estimator))
    if cls not in counterparts.values():
        worded = "must be an MLPClassifier(...) or MLPRegressor(...) object, scikit-learn's or ours"
        raise bad_type("with_optimizer", "estimator", worded, estimator)
    params = {name: clone(value, safe=False) for name, value in estimator.get_params(deep=False).items()}
    if type(estimator) in counterparts and params["learning_rate_init"] == LEARNING_RATE_INIT:
        params["learning_rate_init"] = None
    network: MLPClassifier | MLPRegressor = cls(**{**params, "optimizer": optimizer})
    if hasattr(estimator, "_skl_callbacks"):
        network.set_callbacks(*estimator._skl_callbacks)
    if hasattr(estimator, "_metadata_request"):
        network._metadata_request = copy.deepcopy(estimator._metadata_request)
    return network


@explains_parameters
class LinearClassifier(ClassifierMixin, Linear):
    """Multinomial logistic regression, trained by any optimizer.

    loss = mean over rows of -log softmax(X coef_^T + intercept_)[y], plus alpha / 2 * |coef_|^2

    Arguments:
      optimizer: a name, an optimizer such as `AdamW(1e-3)`, or None for Adam with a learning rate of 0.01 that steps as
        if features, and the targets of a regression, were standardized; `coef_` and `loss_` are those of the data.
      alpha: L2 decay of `coef_`, in the loss; an optimizer's `weight_decay` is its own and acts on `intercept_` too.
      batch_size: rows of a step; "auto" is the smaller of 64 and all.
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
    classes_: np.ndarray

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

    def _loss(self, scores: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The log loss of each row, one column, and its derivative."""
        log_proba, rows = _log_softmax(_both(scores)), np.arange(len(y))
        residual = np.exp(log_proba)
        residual[rows, y] -= 1
        return -log_proba[rows, y, np.newaxis], residual[:, -scores.shape[1] :]

    def _score(self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        return float(accuracy_score(y, np.argmax(_both(scores), axis=1), sample_weight=weights))

    def decision_function(self, X: Data) -> np.ndarray:
        """The score of each class; where there are two, that of the second alone, (n,)."""
        scores = self._checked_scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Data) -> np.ndarray:
        """The most probable class of each row."""
        scores = self._checked_scores(X)
        return self.classes_[np.argmax(_both(scores), axis=1)]

    def predict_log_proba(self, X: Data) -> np.ndarray:
        """The logarithm of `predict_proba`."""
        return _log_softmax(_both(self._checked_scores(X)))

    def predict_proba(self, X: Data) -> np.ndarray:
        """The probability of each class, in the order of `classes_`."""
        return np.exp(self.predict_log_proba(X))


def _both(scores: np.ndarray) -> np.ndarray:
    """A column for each class: where two classes share one score, the first one's is 0."""
    return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    """The logarithm of softmax, without overflow."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@explains_parameters
class LinearRegressor(RegressorMixin, MultiOutputMixin, Linear):
    """Least squares for one or more targets, trained by any optimizer. Arguments as in `LinearClassifier`.

    loss = mean over rows of |X coef_^T + intercept_ - y|^2 / 2, plus alpha / 2 * |coef_|^2

    Most optimizers move a coefficient by about the learning rate in a step, however large it is to become: beside an
    optimizer of yours, scale `X` and `y` or choose a learning rate to match. `optimizer=None` does it by itself.

    Example:
      >>> from scirs2_adapters.sklearn import LinearRegressor
      >>> LinearRegressor(alpha=0.0, tol=1e-7).fit([[0.0], [1.0]] * 20, [0.0, 0.5] * 20).coef_.round(1)
      array([0.5])
    """

    __module__ = PUBLIC
    _numeric = True

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Data, y: Data, sample_weight: Data = None) -> Self:
        """One epoch on these rows."""
        return self._train(X, y, sample_weight, partial=True)

    def _targets(self, y: np.ndarray, dtype: np.dtype, known: bool) -> tuple[np.ndarray, tuple[int, ...]]:
        """Targets as columns, and their number: () for a single one, whose `coef_` is a vector."""
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        if known and hasattr(self, "coef_") and y.shape[1:] != (before := self.coef_.shape[:-1]):
            raise ValueError(f"`y` must have the targets of the last fit, shape {before}. Received: {y.shape[1:]}.")
        return y.reshape(len(y), -1).astype(dtype, copy=False), y.shape[1:]

    def _loss(self, scores: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Half the squared error of each row and target, and its derivative."""
        residual = scores - y
        return 0.5 * residual * residual, residual

    def _score(self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        return float(r2_score(y, scores, sample_weight=weights))

    def predict(self, X: Data) -> np.ndarray:
        """The predicted targets, (n,) where there is one."""
        scores = self._checked_scores(X)
        return scores[:, 0] if self.coef_.ndim == 1 else scores
