"""The linear classifier: its losses, what its targets are, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Self

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags, compute_class_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from scirs2_adapters.core import Rule
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.step.options import StateDtype

from .argument_names import PUBLIC, explains_parameters
from .classes import class_indices, label_columns
from .fit import Linear
from .losses import CLASSIFIER_LOSSES, LABEL_LOSSES, ClassLoss, Losses, both
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
    and -1 for any other: each class is told from all others by itself, as in `SGDClassifier`. Where rows have several
    labels, `y` has a column of 0 and 1 for each, and each is told from its absence by itself, by "log_loss" with
    log(1 + exp(-z)). `predict`, `predict_proba` and `decision_function` then have a column for each label.

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
    multilabel_ = False  # of pickles that know none
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
        """One epoch on these rows; the first call needs all `classes`, or a name for each label."""
        return self._train(X, y, sample_weight, partial=True, classes=classes)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _targets(self, y: np.ndarray, dtype: np.dtype, known: bool) -> tuple[np.ndarray, tuple[int, ...]]:
        """The index of each row's class, and the outputs: one for two classes, else one for each. Where rows have
        several labels, a column for each, and as many outputs.
        """
        several, call = y.ndim == 2, f"{type(self).__name__}.fit"
        if known and hasattr(self, "coef_") and several != self.multilabel_:
            before = f"of shape (rows, {len(self.classes_)})" if self.multilabel_ else "the class of each row"
            raise ValueError(f"`y` must be {before}, as in the last fit. Received: an array of shape {y.shape}.")
        classes = self.classes_ if known else None
        y, self.classes_ = label_columns(call, y, classes) if several else class_indices(call, y, classes)
        self.multilabel_ = several
        return y, (1 if len(self.classes_) == 2 and not several else len(self.classes_),)

    def _weighted(self, y: np.ndarray, weights: np.ndarray, partial: bool) -> np.ndarray:
        """The weight of each row times that of its class, which scikit-learn does not divide by their mean either."""
        call, classes = type(self).__name__, self.classes_
        if self.class_weight is None:
            return weights
        if self.multilabel_:
            worded = "must be None where `y` has a column for each label"
            way_out = "Weigh rows by `sample_weight`, or put `OneVsRestClassifier` around the estimator."
            raise bad_value(call, "class_weight", worded, self.class_weight, way_out)
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

    @property
    def _losses(self) -> ClassLoss:
        return (LABEL_LOSSES if self.multilabel_ else CLASSIFIER_LOSSES)[self.loss]

    def _loss(self, scores: np.ndarray, y: np.ndarray) -> Losses:
        """The losses of each row, and their derivatives by its scores."""
        return self._losses.of(scores, y)

    def _decided(self, scores: np.ndarray) -> np.ndarray:
        """The index of the class of the largest score, or 1 for each label whose score is above 0."""
        return (scores > 0).astype(int) if self.multilabel_ else np.argmax(both(scores), axis=1)

    def _score(self, scores: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
        return float(accuracy_score(y, self._decided(scores), sample_weight=weights))

    def decision_function(self, X: Data) -> np.ndarray:
        """The score of each class or label; where there are two classes, that of the second alone, (n,)."""
        scores = self._checked_scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Data) -> np.ndarray:
        """The most probable class of each row; of labels a column for each, 1 where the row has it."""
        decided = self._decided(self._checked_scores(X))
        return decided if self.multilabel_ else self.classes_[decided]

    @available_if(_has_proba)
    def predict_log_proba(self, X: Data) -> np.ndarray:
        """The logarithm of `predict_proba`; of "modified_huber" it can be -inf."""
        of_scores = self._losses.log_proba
        assert of_scores is not None
        return of_scores(self._checked_scores(X))

    @available_if(_has_proba)
    def predict_proba(self, X: Data) -> np.ndarray:
        """The probability of each class, in the order of `classes_`: softmax of the scores, for "modified_huber"
        (clip(score, -1, 1) + 1) / 2, of several classes divided by its sum. Of labels, that the row has it:
        1 / (1 + exp(-score)), or the same as above without the division.
        """
        of_scores = self._losses.proba
        assert of_scores is not None
        return of_scores(self._checked_scores(X))
