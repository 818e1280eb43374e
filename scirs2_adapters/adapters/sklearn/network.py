"""What our networks have beside scikit-learn's: a constructor that takes an optimizer, and its steps.

scikit-learn's fit loop steps by a private object `_optimizer`. In our subclasses that is a property, so that the loop
meets another optimizer and is not copied. `fit` copies the optimizer that was given, and its memory belongs to the
estimator.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

from scirs2_adapters.core import Rule
from scirs2_adapters.core.step.options import StateDtype

from . import rates
from .argument_names import (
    LEARNING_RATE_INIT,
    NETWORK_OPTIONS,
    StepOptions,
    chosen_rule,
    layer_groups,
    merge_nested,
    step_options,
)
from .state import Stepper, writeable

CONSTRAINTS = {
    "learning_rate_init": [Interval(Real, 0, None, closed="neither"), None],
    "optimizer": "no_validation",
    "skip_nonfinite": ["boolean"],
    "state_dtype": "no_validation",
    "decay_biases": ["boolean"],
    "learning_rate_by_layer": "no_validation",
    **rates.CONSTRAINTS,
}


class Network:
    """Gives a network of scikit-learn another optimizer, by answering for its private `_optimizer`."""

    optimizer: Rule | str | None
    optimizer_: Stepper
    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    learning_rate_init: float | None
    warm_start: bool
    _auto_batch = 200

    def set_params(self, **params: object) -> Self:
        """Set parameters, those of the optimizer as `optimizer__learning_rate`."""
        return super().set_params(**merge_nested(self, params))  # type: ignore[misc]

    @property
    def _optimizer(self) -> object:
        """What steps the weights, ours or scikit-learn's own; missing where the other one was used last."""
        stepper = vars(self).get("_optimizer" if self.optimizer is None else "optimizer_")
        if stepper is None:
            raise AttributeError("_optimizer")
        return stepper

    @_optimizer.setter
    def _optimizer(self, solver: object) -> None:
        """Keep what scikit-learn sets at the start of a fit only where no optimizer of ours is asked for."""
        if self.optimizer is None:
            vars(self)["_optimizer"] = solver

    def _fit(self, *args: object, **kwargs: object) -> Self:
        rule = chosen_rule(self)  # what is wrong with it is refused here, before anything is changed
        if rule is None:
            vars(self).pop("optimizer_", None)
        else:
            layer_groups(self, rule)
            rates.course(self, rule, 1, bool(kwargs.get("incremental")))
        return super()._fit(*args, **kwargs)  # type: ignore[misc]

    def _fit_stochastic(self, *args: Any) -> None:
        rule, rate = chosen_rule(self), self.learning_rate_init
        if rule is not None:  # the last argument says whether this is a `partial_fit`
            continues, options = hasattr(self, "optimizer_") and (args[-1] or self.warm_start), self._options(rule)
            before = self.optimizer_ if continues else Stepper(rule, options)
            self.optimizer_ = before.under(type(self).__name__, rule, options)
            self.optimizer_.follow(rates.course(self, rule, len(args[1]), bool(args[-1])))
        self.coefs_, self.intercepts_ = writeable(self.coefs_), writeable(self.intercepts_)
        try:  # scikit-learn makes its own optimizer in any case, which needs a number
            self.learning_rate_init = LEARNING_RATE_INIT if rate is None else rate
            super()._fit_stochastic(*args)  # type: ignore[misc]
        finally:
            self.learning_rate_init = rate
        if rule is not None:  # after an interruption, which scikit-learn takes for an end
            self.optimizer_.show()

    def _options(self, rule: Rule) -> StepOptions:
        return step_options(self, layer_groups(self, rule))

    def _backprop(self, *args: object) -> object:
        if self.optimizer is not None:
            self.optimizer_.resume([*self.coefs_, *self.intercepts_])
        return super()._backprop(*args)  # type: ignore[misc]

    def _update_no_improvement_count(self, *args: object) -> None:
        if self.optimizer is not None:
            self.optimizer_.show()
        super()._update_no_improvement_count(*args)  # type: ignore[misc]


def constructor(base: type[BaseEstimator]) -> Callable[..., None]:
    """The constructor of the installed scikit-learn, with `optimizer`, and with a step size left to the optimizer."""

    def __init__(
        self: BaseEstimator,
        *args: object,
        optimizer: Rule | str | None = None,
        learning_rate_init: float | None = None,
        skip_nonfinite: bool = False,
        state_dtype: StateDtype = None,
        warmup: float = 0,
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
