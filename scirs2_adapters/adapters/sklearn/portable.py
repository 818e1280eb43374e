"""The state of a fitted estimator's optimizer, out and in."""

from __future__ import annotations

import numpy as np
import sklearn
from sklearn.base import BaseEstimator

from scirs2_adapters.core.errors import bad_type
from scirs2_adapters.core.matrix import INPUTS_FIRST
from scirs2_adapters.core.portable import host
from scirs2_adapters.core.portable.fit import Asked, Report, fitted
from scirs2_adapters.core.portable.state import ParameterState, State, described

from .state import Saved, Stepper


def read(estimator: BaseEstimator, call: str = "state.save") -> State:
    """The state of what an estimator was fitted with."""
    stepper, saved = fitted_with(call, estimator)
    parameters = {}
    for name, steps in saved["steps"].items():
        slots = {slot: host.array(x) for slot, x in saved["state"].get(name, {}).items() if isinstance(x, np.ndarray)}
        p = stepper._host.params[name] if stepper._host else None
        shape, dtype = (None, "") if p is None else (p.shape, p.dtype.name)
        parameters[name] = ParameterState(slots, steps, shape, dtype)
    return described(
        stepper.rule, parameters, numbers=dict(saved["model"]), step_count=saved["step_count"],
        skipped_steps=saved["skipped_steps"], layout=INPUTS_FIRST if hasattr(estimator, "coefs_") else "",
        source={"framework": "sklearn", "scikit-learn": sklearn.__version__, "class": type(estimator).__name__},
    )  # fmt: skip


def load(estimator: BaseEstimator, saved: State, asked: Asked) -> Report:
    """Put a state into the optimizer, with which `partial_fit` or a warm start goes on."""
    stepper, mine = fitted_with(asked.call, estimator)
    state, report = fitted(asked, saved, read(estimator, asked.call), stepper.rule)
    slots = {name: {slot: np.array(x.read()) for slot, x in p.slots.items()} for name, p in state.parameters.items()}
    steps = {name: p.steps for name, p in state.parameters.items() if p.steps is not None}
    new = {name: mine["state"].get(name, {}) | arrays for name, arrays in slots.items() if arrays or steps.get(name)}
    mine = {**mine, "steps": {**mine["steps"], **steps}, "model": dict(state.numbers)}
    mine["state"] = {name: x for name, x in mine["state"].items() if name not in slots} | new
    mine |= {"step_count": state.step_count, "skipped_steps": state.skipped_steps}
    if stepper._host:
        stepper._host.load_state_dict(mine)
    else:
        stepper._saved = mine
    return report


def fitted_with(call: str, estimator: BaseEstimator) -> tuple[Stepper, Saved]:
    """The optimizer and its state."""
    stepper = getattr(estimator, "optimizer_", None)
    saved = stepper.state_dict() if isinstance(stepper, Stepper) else None
    if not isinstance(stepper, Stepper) or saved is None:
        raise bad_type(call, "optimizer", "must be an estimator that was fitted with an optimizer of ours", estimator)
    return stepper, saved
