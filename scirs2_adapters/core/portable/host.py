"""The state of a `HostOptimizer`, out and in."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace

import numpy as np

from ..errors import bad_value
from ..numpy_optimizer import HostOptimizer
from ..numpy_state import FORMAT_VERSION, Saved
from .file import Array, held
from .fit import Asked, Report, fitted
from .state import ParameterState, State, described

SOURCE = {"framework": "numpy", "numpy": np.__version__}
#: The name of a parameter itself among its slots, in files that hold parameters too. No slot of a rule has this name.
PARAMETER = "p"


def _named(optimizer: HostOptimizer) -> dict[str, Hashable]:
    keys: dict[str, Hashable] = {str(key): key for key in optimizer.params}
    if len(keys) != len(optimizer.params):
        raise bad_value("state", "optimizer", "must have parameters whose names differ", list(optimizer.params))
    return keys


def array(x: np.ndarray) -> Array:
    """A slot of numpy's; bfloat16 is carried as uint16."""
    return held(x, np.asarray(x).dtype.name.replace("uint16", "bfloat16"))


def read(optimizer: HostOptimizer, fresh: bool = False) -> State:
    """The state; with `fresh`, slots of parameters that have not been stepped are as before the first step."""
    parameters = {}
    for name, key in _named(optimizer).items():
        slots = optimizer.fresh(key) if fresh else optimizer.state.get(key, {})
        arrays = {slot: array(x) for slot, x in slots.items() if isinstance(x, np.ndarray)}
        p = optimizer.params[key]
        parameters[name] = ParameterState(arrays, optimizer.steps[key], p.shape, p.dtype.name)
    return described(
        optimizer.rule, parameters, numbers=dict(optimizer.model), step_count=optimizer.step_count,
        skipped_steps=optimizer.skipped_steps, source=SOURCE,
    )  # fmt: skip


def with_parameters(state: State, params: Mapping[str, Array]) -> State:
    """The state, and the parameters themselves as one slot more of each. Arrays that are not in it are added."""
    known = {name: ParameterState({}, 0, x.shape, x.dtype) for name, x in params.items()} | dict(state.parameters)
    joined = {name: replace(known[name], slots={**known[name].slots, PARAMETER: x}) for name, x in params.items()}
    return replace(state, parameters=joined)


def apart(state: State) -> tuple[State, dict[str, Array]]:
    """What `with_parameters` has put together; KeyError if a parameter is not there."""
    slots = {name: dict(p.slots) for name, p in state.parameters.items()}
    params = {name: kept.pop(PARAMETER) for name, kept in slots.items()}
    return replace(state, parameters={k: replace(p, slots=slots[k]) for k, p in state.parameters.items()}), params


def load(optimizer: HostOptimizer, saved: State, asked: Asked) -> Report:
    """Put a state into the optimizer, all of it or nothing."""
    state, report = fitted(asked, saved, read(optimizer, fresh=True), optimizer.rule)
    optimizer.load_state_dict(as_dict(optimizer, state), strict=False)
    return report


def as_dict(optimizer: HostOptimizer, state: State) -> Saved:
    """What `load_state_dict` takes: the present state, with the loaded arrays in place of its own."""
    keys: Mapping[str, Hashable] = _named(optimizer)
    slots = {keys[name]: {slot: x.read() for slot, x in p.slots.items()} for name, p in state.parameters.items()}
    steps = {keys[name]: p.steps for name, p in state.parameters.items() if p.steps is not None}
    uncounted = {keys[name] for name, p in state.parameters.items() if p.steps is None}
    steps |= {key: max(optimizer.steps[key], 1) for key in uncounted}
    untouched = {key: x for key, x in optimizer.state.items() if key not in slots}
    full = {key: optimizer.state.get(key, {}) | new for key, new in slots.items() if new or steps.get(key)}
    everywhere = dict.fromkeys(optimizer.params, state.step_count) if not state.parameters else optimizer.steps
    return {
        "format_version": FORMAT_VERSION, "rule": optimizer.rule.name, "match": optimizer.rule.match,
        "state": untouched | full, "steps": everywhere | steps, "model": dict(state.numbers),
        "skipped_steps": state.skipped_steps, "step_count": state.step_count,
    }  # fmt: skip
