"""What stands in for a network's own optimizer in scikit-learn's training loop, asked as that loop asks it."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_array

import scirs2_adapters
from scirs2_adapters.adapters.sklearn.state import Stepper

from ..options import Hyper
from ..problem import STORAGE, Arrays, Problem
from ..walk import State


class Optimizer:
    """A rule under a network whose weights and biases are the leaves."""

    def __init__(self, rule: str, hyper: Hyper, path: str, problem: Problem) -> None:
        self.dtype = STORAGE[problem.dtype]
        kept = check_array(np.zeros((1, 1), self.dtype), dtype=(np.float64, np.float32)).dtype
        if kept != self.dtype:
            raise TypeError(f"scikit-learn makes {kept} of {self.dtype}")
        options = {} if path == "host" else {"kernel": path}
        self.stepper = Stepper(scirs2_adapters.get(rule)(**hyper), **options)
        self.values = iter(problem.values)
        self.arrays = [p.astype(self.dtype) for p in problem.params]

    def step(self, grads: Arrays) -> None:
        self.stepper.loss = next(self.values)
        self.stepper.update_params(self.arrays, [g.astype(self.dtype) for g in grads])

    def params(self) -> Arrays:
        return [p.astype(float) for p in self.arrays]

    def state(self) -> State:
        saved = self.stepper.state_dict()
        leaves = [{n: x.astype(float) for n, x in slots.items()} for slots in saved["state"].values()]
        return {"leaves": leaves, "model": {k: np.asarray(v) for k, v in saved["model"].items()}}
