"""The steps of a `HostOptimizer`, written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..numpy_arrays import Arrays, items
from ..numpy_optimizer import HostOptimizer
from ..rule import Rule
from .host import array, read
from .recording import Recorder, with_arrays
from .state import ParameterState, State, described


def recorded(optimizer: HostOptimizer, recorder: Recorder) -> HostOptimizer:
    """The same optimizer, which writes its steps from now on."""
    step = optimizer.step

    def recording(grads: Arrays, value: float | None = None) -> None:
        step(grads, value)
        if not recorder.over:
            gradients = {str(key): np.asarray(g) for key, g in items("step", "grads", grads) if g is not None}
            recorder.write(states(optimizer, gradients))

    recorder.write(states(optimizer, {}))
    vars(optimizer)["step"] = recording
    return optimizer


def states(optimizer: HostOptimizer, grads: Mapping[str, np.ndarray], layout: str = "") -> list[State]:
    """What there is after a step, by group: parameters of one have a rule in common. `layout` is that of kernels, where
    it is known.
    """
    state, rules = (
        replace(read(optimizer), layout=layout),
        {str(key): optimizer.rule_of(key) for key in optimizer.params},
    )
    params = {str(key): array(p) for key, p in optimizer.params.items()}
    gradients = {name: array(g) for name, g in grads.items()}
    whole = {n: with_arrays(p, params[n], gradients.get(n)) for n, p in state.parameters.items()}
    return [
        _of(rule, state, {n: p for n, p in whole.items() if rules[n] == rule}) for rule in dict.fromkeys(rules.values())
    ]


def _of(rule: Rule, state: State, parameters: Mapping[str, ParameterState]) -> State:
    known = described(rule, parameters)
    return replace(state, config=known.config, parameters=parameters, meanings=known.meanings)
