"""The steps of an estimator whose fit has begun, written down."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator

from scirs2_adapters.core.matrix import INPUTS_FIRST, OUTPUTS_FIRST
from scirs2_adapters.core.portable.host_recording import states
from scirs2_adapters.core.portable.recording import Recorder

from .portable import fitted_with
from .state import Arrays


def recorded(estimator: BaseEstimator, recorder: Recorder) -> BaseEstimator:
    """The same estimator, which writes the steps that `partial_fit` or a warm start takes from now on."""
    stepper = fitted_with("record", estimator)[0]
    layout = INPUTS_FIRST if hasattr(estimator, "coefs_") else ""

    def write(grads: Arrays) -> None:
        if stepper._host is not None and not recorder.over:
            recorder.write(states(stepper._host, grads, layout))

    def step(params: Arrays, grads: Arrays, loss: float, lies: str = OUTPUTS_FIRST) -> None:
        if not recorder.started:
            recorder.write(states(stepper._bound(params, lies), {}, layout))
        whole(params, grads, loss, lies)
        write(grads)

    def step_columns(params: Arrays, which: np.ndarray, grads: Arrays) -> None:
        columns(params, which, grads)
        write({})

    whole, columns = stepper.step, stepper.step_columns
    vars(stepper).update(step=step, step_columns=step_columns)
    return estimator
