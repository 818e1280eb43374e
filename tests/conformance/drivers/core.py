"""The core's optimizer on numpy arrays, and the oracle: plain numpy in float64, rounded to storage after each step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import scirs2_adapters
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.slots import Leaf
from scirs2_adapters.core.step.options import slot_dtype

from ..options import Hyper, resolved
from ..problem import STORAGE, Arrays, Problem, rounded
from ..walk import State


class Optimizer:
    """Parameters in a dict by name, as a user of plain numpy has them."""

    def __init__(self, rule: str, hyper: Hyper, path: str, problem: Problem) -> None:
        self.dtype = STORAGE[problem.dtype]
        self.arrays = {k: p.astype(self.dtype) for k, p in zip(problem.names, problem.params, strict=True)}
        self.values = iter(problem.values)
        self.optimizer = HostOptimizer(scirs2_adapters.get(rule)(**hyper), self.arrays, kernel=path)

    def step(self, grads: Arrays) -> None:
        named = {k: g.astype(self.dtype) for k, g in zip(self.arrays, grads, strict=True)}
        self.optimizer.step(named, value=next(self.values))

    def params(self) -> Arrays:
        return [p.astype(float) for p in self.arrays.values()]

    def state(self) -> State:
        leaves = [{n: self._slot(x) for n, x in self.optimizer.state[k].items()} for k in self.arrays]
        return {"leaves": leaves, "model": {k: np.asarray(v) for k, v in self.optimizer.model.items()}}

    def _slot(self, x: np.ndarray) -> np.ndarray:
        return (x.view(self.dtype) if x.dtype == np.uint16 else x).astype(float)


class Oracle(Optimizer):
    """Exact arithmetic, real memory: what an optimizer whose only error is that of storage would do."""

    def __init__(self, rule: str, hyper: Hyper, problem: Problem, nudge: float = 0.0) -> None:
        exact = replace(problem, dtype="float64")
        super().__init__(rule, resolved(rule, hyper, problem.dtype), "traced", exact)
        self.kept, self.factor = problem.dtype, 1 + nudge

    def step(self, grads: Arrays) -> None:
        super().step(grads)
        for x in self.arrays.values():
            x[...] = self.factor * rounded(x, self.kept)
        dtypes = {s.name: slot_dtype(s, Leaf((), self.kept), None) for s in self.optimizer.rule.all_slots()}
        for name, x in (pair for slots in self.optimizer.state.values() for pair in slots.items()):
            x[...] = self.factor * rounded(x, dtypes.get(name, self.kept))
