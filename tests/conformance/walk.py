"""Walks a problem and keeps what was seen: parameters and state after each step, in the shape the slow twins return."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .problem import Arrays, Problem

State = dict[str, Any]
History = tuple[list[Arrays], list[State]]


class Driver(Protocol):
    """One optimizer at work in one adapter: what a driver module makes for `Optimizer(rule, hyper, path, problem)`.

    `hyper` holds core names; the adapter's spelling is the driver's business. `params` and `state` give float64 copies
    in the problem's order and under canonical names: {"leaves": [{slot: array}, ...], "model": {scalar: array}}.
    """

    def step(self, grads: Arrays) -> None: ...
    def params(self) -> Arrays: ...
    def state(self) -> State: ...


def walk(optimizer: Driver, problem: Problem) -> History:
    """Every step of the problem."""
    params, states = [], []
    for grads in problem.grads:
        optimizer.step(grads)
        params.append(optimizer.params())
        states.append(optimizer.state())
    return params, states


def values(history: History) -> dict[str, np.ndarray]:
    """Each parameter, slot and model scalar over all steps: one array, the step its first axis."""
    params, states = history
    series = {f"leaf {i}": np.stack([step[i] for step in params]) for i in range(len(params[0]))}
    for i, slots in enumerate(states[-1]["leaves"]):
        series |= {f"leaf {i}, {name}": np.stack([s["leaves"][i][name] for s in states]) for name in slots}
    return series | {name: np.stack([s["model"][name] for s in states]) for name in states[-1]["model"]}
