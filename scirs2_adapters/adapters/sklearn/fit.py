"""How the linear estimators are trained: parameters, fit, the loop over batches, and what stops it.

The step itself is the core's `HostOptimizer`: the compiled kernel, or numpy where nothing can be compiled. All
arithmetic is done in the dtype of `X`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import Tags, check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from scirs2_adapters.core import Rule, get
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.schedules import InverseSqrt

from .argument_names import Restored, chosen_rule, intercept_group, merge_nested, step_options
from .callbacks import FitCallbacks, watched
from .penalties import PENALTIES, check_rule_for_l1
from .rates import CONSTRAINTS, Course, Rated, course
from .state import Data, Pair, Stepper, appended, writeable
from .steps import Steps

#: What `optimizer=None` means to a linear estimator: Adam in standardized units, with a step that suits them. Along a
#: column that does not vary, or an intercept that is right, a derivative is rounding error. With the usual epsilon Adam
#: would take steps of the full size there.
DEFAULT_ADAM = {"learning_rate": 0.01, "eps": 1e-3}
#: Its rate falls: at a constant one coefficients would go on moving by the noise of the batches.
DEFAULT_RATES = InverseSqrt(0.01, timescale=300)
#: A regression takes so many steps, or half of `max_iter`, before it ends: in an epoch of few steps little changes.
DEFAULT_STEPS = 1000

FLOATS = (np.float64, np.float32)
#: Features, targets and weights.
Rows = tuple[Data, np.ndarray, np.ndarray]


class Linear(Rated, Restored, FitCallbacks, Steps, BaseEstimator):
    """What the two linear estimators share. A subclass says what its targets are, and states `_loss` and `_score`."""

    loss_curve_: list[float]
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None
    _best_arrays: Pair
    _targets: Callable[..., tuple[np.ndarray, tuple[int, ...]]]
    _weighted: Callable[[np.ndarray, np.ndarray, bool], np.ndarray]
    _score: Callable[[np.ndarray, np.ndarray, np.ndarray], float]
    _parameter_constraints = {
        **CONSTRAINTS,
        "optimizer": "no_validation",
        "skip_nonfinite": ["boolean"],
        "state_dtype": "no_validation",
        "penalty": [StrOptions(set(PENALTIES)), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "average": ["boolean", Interval(Integral, 1, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    }

    @staticmethod
    def _auto_batch(rows: int) -> int:
        """What `batch_size="auto"` is for so many rows: a hundredth, within bounds."""
        return min(max(64, rows // 100), 1024)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def set_params(self, **params: object) -> Self:
        """Set parameters, those of the optimizer as `optimizer__learning_rate`."""
        return super().set_params(**merge_nested(self, params))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Data, y: Data, sample_weight: Data = None) -> Self:
        """Train from the beginning; with `warm_start`, go on from where the last fit ended."""
        return self._train(X, y, sample_weight, partial=False)

    def _train(self, X: Data, y: Data, sample_weight: Data, *, partial: bool, classes: Data = None) -> Self:
        """Do what `fit` and `partial_fit` do. An estimator that refuses its arguments remains as it was."""
        with _as_it_was_if_refused(self):
            rows = self._ready(X, y, sample_weight, partial, classes)
        with self._calling_back(X, y, sample_weight, 1 if partial else self.max_iter):
            converged = self._descend(*rows, partial)
        self._refuse_not_finite()
        if not (converged or partial or self.learning_rate == "cosine"):  # whose rate has come to its end
            text = f"{self.max_iter} epochs were not enough to converge. Increase `max_iter`."
            warnings.warn(text, ConvergenceWarning, stacklevel=4)
        return self

    def _ready(self, X: Data, y: Data, sample_weight: Data, partial: bool, classes: Data) -> Rows:
        """Check everything, and begin. Return the rows to train on."""
        rule, first = chosen_rule(self), not hasattr(self, "coef_") or not (partial or self.warm_start)
        standardize = rule is None
        rule = rule or get("adam").build(DEFAULT_ADAM)
        if partial and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if partial and not self._numeric:
            _check_partial_fit_first_call(self, classes)
        X, y, weights = self._checked_rows(X, y, sample_weight, first)
        y, outputs = self._targets(y, X.dtype, known=partial or not first)
        X, y, weights = _without_weightless(X, y, weights)
        weights = self._weighted(y, weights, partial)
        self._check_rule(rule, (*outputs, X.shape[1]), X.dtype.name)
        rates = course(self, rule, X.shape[0], partial)
        if standardize and rates.kind == "constant" and rates.schedule is None:
            rates = rates._replace(kind="default", schedule=DEFAULT_RATES)
        if first:
            self._start(outputs, X)
        self._begin(rule, (X, y, weights), first, standardize, rates)
        return X, y, weights

    def _refuse_not_finite(self) -> None:
        if not (np.isfinite(self.coef_).all() and np.isfinite(self.intercept_).all()):
            way_out = "Scale the data, or lower the learning rate."
            raise ValueError(f"`{type(self).__name__}` ended with coefficients that are not finite. {way_out}")

    def _begin(self, rule: Rule, rows: Rows, first: bool, standardize: bool, rates: Course) -> None:
        """Units, optimizer and averages: new ones, or those that go on."""
        options = step_options(self, intercept_group(rule))
        if first or not self._keeps_units(standardize):
            self._units = self._new_units(*rows) if standardize else None
            self.optimizer_, self._averages = Stepper(rule, options), None
        self._begin_intercept(first)
        if first or (self.validation_scores_ is None) == self.early_stopping:
            self.validation_scores_ = [] if self.early_stopping else None
            self.validation_loss_curve_ = [] if self.early_stopping else None
            self._best, self._without_progress = -np.inf, 0
        self.optimizer_ = watched(self, self.optimizer_.under(type(self).__name__, rule, options, rates))

    def _check_rule(self, rule: Rule, shape: tuple[int, ...], dtype: str) -> None:
        """Refuse a rule that goes neither with the penalty nor with `average`."""
        call = type(self).__name__
        if self._strengths.l1:
            check_rule_for_l1(call, rule, shape, dtype)
        if self.average and rule.evaluation is not None:
            worded = "must be False beside an optimizer that has averages of its own to evaluate"
            raise bad_value(call, "average", worded, self.average)

    def _checked_rows(self, X: Data, y: Data, sample_weight: Data, first: bool) -> Rows:
        checks = {"multi_output": True, "y_numeric": self._numeric, "accept_sparse": "csr", "dtype": FLOATS}
        X, y = map(as_numpy, validate_data(self, X, y, reset=first, **checks))
        y = y.toarray() if issparse(y) else y
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        weights = _check_sample_weight(as_numpy(sample_weight), X, dtype=X.dtype)
        if np.any(weights < 0) or not np.any(weights):
            worded = "must be at least 0, and not 0 everywhere"
            raise bad_value(f"{type(self).__name__}.fit", "sample_weight", worded, sample_weight)
        return X, y, weights

    def _start(self, outputs: tuple[int, ...], X: Data) -> None:
        """Begin at coefficients of 0; the loss is convex."""
        self.coef_ = np.zeros((*outputs, X.shape[1]), dtype=X.dtype)
        self.intercept_ = np.zeros(outputs or 1, dtype=X.dtype)
        self.t_, self.loss_curve_ = 0, []

    def _descend(self, X: Data, y: np.ndarray, weights: np.ndarray, partial: bool) -> bool:
        """Train for one epoch if `partial`, else until `tol` or `max_iter` ends it. Return whether `tol` did."""
        random, held_out = check_random_state(self.random_state), None
        if self.early_stopping:
            (X, y, weights), held_out = self._held_out((X, y, weights), random)
        self.coef_, self.intercept_ = writeable((self.coef_, self.intercept_))
        self._params = self._units.inside(self.coef_, self.intercept_) if self._units else (self.coef_, self.intercept_)
        epochs, self.n_iter_ = 1 if partial else self.max_iter, 0
        try:
            return self._pass_epochs((X, y, weights), held_out, epochs, random)
        finally:  # an interrupted fit leaves what one that ends there leaves
            del self._params
            if held_out is not None and self.validation_scores_:
                self.coef_, self.intercept_ = (x.copy() for x in self._best_arrays)

    def _pass_epochs(self, rows: Rows, held_out: Rows | None, epochs: int, random: np.random.RandomState) -> bool:
        """Train for at most so many epochs. Return whether `tol` or a callback ended it."""
        converged = False
        while self.n_iter_ < epochs and not converged:
            self._epoch_begins()
            self._show_trained()
            try:
                stepped_loss, self.loss_ = self._epoch(rows, random)
            finally:
                self._settle()
                self._show_evaluated()
            self.n_iter_ += 1
            self.t_ += rows[0].shape[0]
            self.loss_curve_.append(self.loss_)
            converged = self._stalls(stepped_loss, held_out)
            self.optimizer_.epoch_loss = (self.validation_loss_curve_ or self.loss_curve_)[-1]
            self.optimizer_.iteration_ends(self.t_)
            if converged and not self.optimizer_.trigger_stopping("", verbose=False):
                converged, self._without_progress = False, 0
            converged = self._epoch_ends(self._shown) or converged
        return converged

    def _held_out(self, rows: Rows, random: np.random.RandomState) -> tuple[Rows, Rows]:
        """The rows to train on, and those to validate with."""
        stratify = rows[1] if rows[1].ndim == 1 else None  # the class of each row
        parts = train_test_split(*rows, test_size=self.validation_fraction, random_state=random, stratify=stratify)
        training, validation = tuple(parts[::2]), tuple(parts[1::2])
        if len(validation[1]) < 2:
            raise ValueError("The validation set has less than two rows. Increase `validation_fraction`.")
        return training, validation

    def _epoch(self, rows: Rows, random: np.random.RandomState) -> tuple[float, float]:
        """Step through one epoch. Return the weighted mean loss of its rows, in the step's units and in the user's. A
        batch of all rows needs no shuffling.
        """
        count = rows[0].shape[0]
        size = min(count, self._auto_batch(count) if self.batch_size == "auto" else self.batch_size)
        order = random.permutation(count) if self.shuffle and size < count else None
        sums = np.zeros(3)
        for batch in gen_batches(count, size):
            X, y, weights = (x[batch if order is None else order[batch]] for x in rows)
            skipped = self.optimizer_.skipped_steps
            losses = self._learn(X, y, weights)
            if self.optimizer_.skipped_steps == skipped:
                sums += np.array([*losses, 1.0]) * len(weights)
                self._add_to_mean(self.t_ + batch.stop, noisy=size < count)
        stepped_loss, loss = sums[:2] / sums[2] if sums[2] else (np.nan, np.nan)
        return float(stepped_loss), float(loss)

    def _stalls(self, stepped_loss: float, held_out: Rows | None) -> bool:
        """Whether `n_iter_no_change` epochs in a row were not better than the best by `tol`. NaN is not better."""
        value = -stepped_loss
        if held_out is not None and self.validation_scores_ is not None:
            X, y, weights = held_out
            scores = self._scores(X)
            value = self._score(scores, y, weights) if np.isfinite(scores).all() else np.nan
            self.validation_scores_.append(value)
            loss = np.nan if np.isnan(value) else float(np.sum(self._loss(scores, y)[0].T @ (weights / weights.sum())))
            self.validation_loss_curve_ = appended(self, loss)
            if value > self._best or len(self.validation_scores_) == 1:
                self._best_arrays = self.coef_.copy(), self.intercept_.copy()
        else:
            self.validation_loss_curve_ = None
        improved = value >= self._best + (-np.inf if self.tol is None else self.tol)
        self._without_progress = 0 if improved else self._without_progress + 1
        self._best = max(self._best, value)
        return bool(self._without_progress > self.n_iter_no_change) and self._has_stepped(held_out is not None)

    def _has_stepped(self, early_stopping: bool) -> bool:
        """Whether the steps are taken that a regression by default takes at least."""
        if self._units is None or early_stopping or not self._numeric:
            return True
        return self.optimizer_.steps >= DEFAULT_STEPS or self.n_iter_ > self.max_iter // 2

    def _shown(self) -> dict[str, Data]:
        """What a fit would end with if it ended now, for a callback to keep."""
        shown = self._fitted_so_far()
        best = dict(zip(("coef_", "intercept_"), shown["_best_arrays"], strict=True)) if self.early_stopping else {}
        return shown | best

    def _checked_scores(self, X: Data) -> np.ndarray:
        check_is_fitted(self)
        return self._scores(as_numpy(validate_data(self, X, accept_sparse="csr", dtype=FLOATS, reset=False)))


def as_numpy(data: Data) -> Data:
    """As it is, or a numpy array of one of another library, which scikit-learn leaves under `array_api_dispatch`."""
    return np.asarray(data) if hasattr(data, "__array_namespace__") else data


@contextmanager
def _as_it_was_if_refused(estimator: BaseEstimator) -> Iterator[None]:
    """Give an estimator its attributes back after an error."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def _without_weightless(X: Data, y: np.ndarray, weights: np.ndarray) -> Rows:
    """The rows whose weight is not 0, with weights of mean 1; others shall fill no place in a batch or held-out set."""
    positive = weights > 0
    if not positive.all():
        X, y, weights = X[positive], y[positive], weights[positive]
    return X, y, (weights / weights.mean(dtype=np.float64)).astype(weights.dtype)
