"""What our networks have beside scikit-learn's: a constructor that takes an optimizer, and its steps.

scikit-learn's fit loop steps by a private object `_optimizer`. In our subclasses that is a property, so that the loop
meets another optimizer and is not copied. `fit` copies the optimizer that the user passed; the memory of the copy
belongs to the estimator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils._param_validation import Interval

from scirs2_adapters.core import Rule
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.step.options import StateDtype

from . import rates
from .argument_names import (
    LEARNING_RATE_INIT,
    NETWORK_OPTIONS,
    Restored,
    StepOptions,
    chosen_rule,
    layer_groups,
    merge_nested,
    step_options,
)
from .backprop import data_loss, loss_and_gradients
from .callbacks import FitCallbacks, watched
from .state import Data, Stepper, appended, writeable

CONSTRAINTS = {
    "learning_rate_init": [Interval(Real, 0, None, closed="neither"), None],
    "optimizer": "no_validation",
    "skip_nonfinite": ["boolean"],
    "state_dtype": "no_validation",
    "decay_biases": ["boolean"],
    "learning_rate_by_layer": "no_validation",
    **rates.CONSTRAINTS,
}


class StopTraining(Exception):
    """A callback or a cosine ends the training; raised out of scikit-learn's loop, and caught around it."""


class Network(rates.Rated, Restored, FitCallbacks):
    """Gives a network of scikit-learn another optimizer, by answering for its private `_optimizer`."""

    optimizer: Rule | str | None
    optimizer_: Stepper
    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    learning_rate_init: float | None
    _chosen: tuple[Rule, StepOptions] | None  # during a fit
    _needs_number: bool = False  # whether `learning_rate_init` is a number for as long as scikit-learn reads it
    warm_start: bool
    solver: str
    max_iter: int
    early_stopping: bool
    t_: int
    loss_curve_: list[float]
    validation_scores_: list[float]
    validation_loss_curve_: list[float] | None
    _best_coefs: list[np.ndarray]
    _best_intercepts: list[np.ndarray]
    _label_binarizer: Data
    hidden_layer_sizes: int | Sequence[int]
    learning_rate: Data
    n_iter_: int
    _forward_pass_fast: Callable[..., np.ndarray]
    _auto_batch = staticmethod(lambda rows: 200)

    def set_params(self, **params: object) -> Self:
        """Set parameters, those of the optimizer as `optimizer__learning_rate`."""
        return super().set_params(**merge_nested(self, params))  # type: ignore[misc]

    @property
    def _optimizer(self) -> Data:
        """The optimizer that steps the weights, ours or scikit-learn's; missing if the other one was used last."""
        stepper = vars(self).get("_optimizer" if self.optimizer is None else "optimizer_")
        if stepper is None:
            raise AttributeError("_optimizer")
        return stepper

    @_optimizer.setter
    def _optimizer(self, solver: object) -> None:
        """Keep what scikit-learn sets at the start of a fit only where no optimizer of ours is asked for."""
        if self.optimizer is None:
            vars(self)["_optimizer"] = solver
        self._take_number_back()

    def _take_number_back(self) -> None:
        """Let `learning_rate_init` be None again, as callbacks and their copies shall see it."""
        if vars(self).pop("_needs_number", False):
            self.learning_rate_init = None

    def _fit(self, X: Data, y: Data, sample_weight: Data = None, incremental: bool = False) -> Self:
        rule = chosen_rule(self)  # what is wrong with it is refused here, before anything is changed
        if rule is None:
            vars(self).pop("optimizer_", None)
            chosen = None
        else:
            chosen = rule, step_options(self, layer_groups(self, rule))
            rates.course(self, rule, 1, incremental)
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}  # scikit-learn 1.6 takes none
        by_epochs = rule is not None or self.solver != "lbfgs"
        epochs = (1 if incremental else self.max_iter) if by_epochs else 0
        self._chosen = chosen
        try:
            with self._calling_back(X, y, sample_weight, epochs):
                return super()._fit(X, y, incremental=incremental, **weight)  # type: ignore[misc]
        finally:
            vars(self).pop("_chosen", None)

    def _fit_stochastic(self, *args: Data) -> None:
        if self._chosen:  # the last argument says whether this is a `partial_fit`
            self._refuse_other_layers(args[-2], args[1])
            rule, options = self._chosen
            continues = hasattr(self, "optimizer_") and (args[-1] or self.warm_start)
            before = self.optimizer_ if continues else Stepper(rule, options)
            course = rates.course(self, rule, len(args[1]), bool(args[-1]))
            self.optimizer_ = watched(self, before.under(type(self).__name__, rule, options, course))
        self.coefs_, self.intercepts_ = writeable(self.coefs_), writeable(self.intercepts_)
        if self.learning_rate_init is None and not (args[-1] and hasattr(self, "_optimizer")):
            # scikit-learn makes its own optimizer in any case, which needs a number
            self._needs_number, self.learning_rate_init = True, LEARNING_RATE_INIT
        try:
            super()._fit_stochastic(*args)  # type: ignore[misc]
        except StopTraining:
            self._optimizer.iteration_ends(self.t_)
            if self.early_stopping:
                self.coefs_, self.intercepts_ = self._best_coefs, self._best_intercepts
        finally:
            self._take_number_back()
        if self._chosen:  # after an interruption, which scikit-learn takes for an end
            self.optimizer_.show()

    def _refuse_other_layers(self, asked: list[int], y: np.ndarray) -> None:
        """Refuse layers of another size than those that are there already and are trained on."""
        there = [*map(len, self.coefs_), len(self.intercepts_[-1])]
        if asked == there:
            return
        self.n_outputs_, goes_on = there[-1], "where `partial_fit` or `warm_start` goes on"
        way_out = "`fit` with `warm_start=False` begins anew."
        call, sizes = type(self).__name__, tuple(there[1:-1])
        if asked[1:-1] != there[1:-1]:
            worded = f"must be {sizes}, as in the fitted network, {goes_on}"
            raise bad_value(call, "hidden_layer_sizes", worded, self.hidden_layer_sizes, way_out)
        raise bad_value(f"{call}.fit", "y", f"must have as many columns as before, {there[-1]}, {goes_on}", y, way_out)

    def _backprop(self, X: Data, y: np.ndarray, *args: Data) -> object:
        if self.solver != "lbfgs":
            self._epoch_begins()
        if self.optimizer is None:
            return super()._backprop(X, y, *args)  # type: ignore[misc]
        self.optimizer_.resume([*self.coefs_, *self.intercepts_])
        evaluated = loss_and_gradients(self, y, [w for w in args[:-4] if w is not None], args[-4:])
        self.optimizer_.loss = evaluated[0]
        return evaluated

    def _update_no_improvement_count(self, early_stopping: bool, X: Data, y: np.ndarray, *weight: Data) -> None:
        if self.optimizer is not None:
            self.optimizer_.show()
        super()._update_no_improvement_count(early_stopping, X, y, *weight)  # type: ignore[misc]
        if not early_stopping:
            self.validation_loss_curve_ = None
        else:
            self._judge(X, y, [w for w in weight if w is not None])
        if self.optimizer is not None:
            self.optimizer_.epoch_loss = (self.validation_loss_curve_ or self.loss_curve_)[-1]
        planned = self.optimizer is not None and self.learning_rate == "cosine" and self.n_iter_ == self.max_iter
        if self._epoch_ends(self._shown) or planned:  # scikit-learn would warn of an end that was planned
            raise StopTraining

    def _judge(self, X: Data, y: np.ndarray, weight: list[np.ndarray]) -> None:
        """Add the loss of the rows that were set apart to `validation_loss_curve_`."""
        if len(self.validation_scores_) == 1:
            self.validation_loss_curve_ = []
        y = self._label_binarizer.transform(y) if is_classifier(self) else y
        loss = data_loss(self, y, self._forward_pass_fast(X, check_input=False), weight)
        self.validation_loss_curve_ = appended(self, loss)

    def _shown(self) -> dict[str, Data]:
        """What a fit would end with if it ended now, for a callback to keep."""
        shown = self._fitted_so_far()
        stepper = shown["_optimizer" if self.optimizer is None else "optimizer_"]
        if self.optimizer is not None:
            stepper.epoch_loss = self.optimizer_.epoch_loss
        stepper.iteration_ends(self.t_)
        if self.early_stopping:
            shown["coefs_"], shown["intercepts_"] = shown["_best_coefs"], shown["_best_intercepts"]
        return shown


def constructor(base: type[BaseEstimator]) -> Callable[..., None]:
    """The constructor of the installed scikit-learn, with `optimizer`, and with a step size left to the optimizer."""

    def __init__(
        self: BaseEstimator,
        *args: object,
        optimizer: Rule | str | None = None,
        learning_rate_init: float | None = None,
        skip_nonfinite: bool = False,
        state_dtype: StateDtype = None,
        warmup: float = 0.0,
        decay_biases: bool = True,
        learning_rate_by_layer: float | Sequence[float] | None = None,
        **params: object,
    ) -> None:
        base.__init__(self, *args, learning_rate_init=learning_rate_init, **params)
        self.optimizer = optimizer
        self.skip_nonfinite = skip_nonfinite
        self.state_dtype = state_dtype
        self.warmup = warmup
        self.decay_biases = decay_biases
        self.learning_rate_by_layer = learning_rate_by_layer

    parameters = dict(inspect.signature(base.__init__).parameters)
    parameters["learning_rate_init"] = parameters["learning_rate_init"].replace(default=None)
    for name, default in {"optimizer": None, **NETWORK_OPTIONS}.items():
        parameters[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
    __init__.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    return __init__
