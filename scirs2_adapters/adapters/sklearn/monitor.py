"""Watches the steps of an estimator, of one fit after the other."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable

import numpy as np
from sklearn.base import BaseEstimator

from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.monitor.monitor import Finish, Monitor, around
from scirs2_adapters.core.monitor.record import Seen, group_record, nonfinite

from .callbacks import watchers
from .estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor
from .state import Arrays, Stepper

_OURS = (LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor)


def watch(estimator: BaseEstimator, monitor: Monitor) -> Monitor:
    """Record the steps of this estimator with an optimizer of ours, those of fits that begin later, too."""
    if not isinstance(estimator, _OURS):
        worded = "must be an estimator of scirs2_adapters.sklearn"
        raise bad_type("monitor", "optimizer", worded, estimator, "Make one with `with_optimizer(estimator, name)`.")
    ends: weakref.WeakKeyDictionary[Stepper, list[Callable[[], None]]] = weakref.WeakKeyDictionary()

    def show(stepper: Stepper) -> None:
        monitor.optimizer = type(stepper.rule).__name__
        if stepper not in ends:
            watcher = functools.partial(_before, monitor), monitor.after
            ends[stepper] = [around(stepper, method, watcher) for method in ("step", "step_columns")]

    known = weakref.ref(estimator)

    def off() -> None:
        if (here := known()) is not None:
            watchers[here].remove(show)
        for end in [end for each in ends.values() for end in each]:
            end()

    watchers.setdefault(estimator, []).append(show)
    if hasattr(estimator, "optimizer_"):
        show(estimator.optimizer_)
    return monitor.until(off)


def _before(monitor: Monitor, stepper: Stepper, params: Arrays, *_: object) -> None:
    monitor.before(functools.partial(_begin, stepper.learning_rate, params))


def _begin(rate: float, params: Arrays) -> Finish:
    return functools.partial(_seen, rate, [np.array(p) for p in params.values()])


def _seen(rate: float, before: list[np.ndarray], stepper: Stepper, params: Arrays, *others: object) -> Seen:
    gradients = next(x for x in others if isinstance(x, dict))
    grads = [np.asarray(g) for g in gradients.values()]
    group = group_record("group 0", rate, grads, before, list(params.values()))
    return Seen([group], nonfinite(grads), stepper.skipped_steps, stepper.memory().state_bytes)
