"""Numpy arrays stepped by an optimizer that evaluates the model: the counterpart of `HostOptimizer`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import bad_type, bad_value
from ..execute.arrays import Arrays
from ..execute.optimizer import HostOptimizer
from ..registry import get
from ..rule import Rule
from ._search import NUMPY, check_closure, drive
from .lbfgs import LBFGS
from .sam import SAM

_CALL = "ClosureOptimizer"
_RETURNS = "returns the loss and the gradients, a dict or list of arrays like the parameters"


class ClosureOptimizer:
    """Steps a dict or list of numpy arrays in place by a rule that evaluates the model inside its step.

    Arguments:
      rule: a rule such as `LBFGS(line_search_fn="strong_wolfe")` or `SAM("adamw")`, or its name.
      params: arrays as `HostOptimizer` takes them.
      options: `kernel`, `state_dtype` and `threads` of the base's step, as `HostOptimizer` takes them.

    Example:
      >>> import numpy as np
      >>> from scirs2_adapters.core import ClosureOptimizer
      >>> params = {"w": np.ones(3)}
      >>> optimizer = ClosureOptimizer("lbfgs", params)
      >>> optimizer.step(lambda: (float(params["w"] @ params["w"]), {"w": 2 * params["w"]}))
      3.0
    """

    def __init__(self, rule: Rule | str, params: Arrays, **options: Any) -> None:
        made = get(rule)() if isinstance(rule, str) else rule
        if not isinstance(made, (LBFGS, SAM)):
            worded = "must be a rule that evaluates the model, such as LBFGS() or SAM(), or its name"
            raise bad_type(_CALL, "rule", worded, rule, "Use HostOptimizer for the others.")
        self.rule: LBFGS | SAM = made
        # of L-BFGS it is only the door: parameters and gradients are checked there
        self._base = HostOptimizer(made.base if isinstance(made, SAM) else "sgd", params, **options)
        self.params = self._base.params
        self.memory: dict[str, Any] = {}

    def step(self, closure: Callable[[], tuple[float, Arrays]]) -> float:
        """One step, in place; `closure()` looks at the parameters as they are and returns (loss, gradients).

        The loss returned is the one before the step. If the closure raises, parameters are as they were.
        """
        check_closure(_CALL, closure, _RETURNS)
        evaluations = _Evaluations(self, closure)
        try:
            if isinstance(self.rule, LBFGS):
                search = self.rule.search(NUMPY, _flat(self.params.values()), self.memory)
                point, self.memory = drive(search, evaluations.flat)
                evaluations.place(_split(point, self.params.values()))
                return evaluations.losses[0]
            x = [_wide(p) for p in self.params.values()]
            grads: Any = drive(self.rule.search(NUMPY, [self.rule] * len(x), x), evaluations.each)
        except BaseException:
            evaluations.restore()
            raise
        evaluations.restore()
        self._base.step(dict(zip(self.params, grads, strict=True)))
        return evaluations.losses[0]

    def state_dict(self) -> dict[str, Any]:
        """A copy of all memory by name."""
        return {"rule": self.rule.name, "base": self._base.state_dict(), "memory": copy.deepcopy(self.memory)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over memory saved by `state_dict`."""
        if saved.get("rule") != self.rule.name:
            found = saved.get("rule")
            raise bad_value(f"{_CALL}.load_state_dict", "saved", f"must be of the optimizer {self.rule.name}", found)
        self._base.load_state_dict(saved["base"])
        self.memory = copy.deepcopy(saved["memory"])


class _Evaluations:
    """The model at the points of a search, and the way back."""

    def __init__(self, optimizer: ClosureOptimizer, closure: Callable[[], tuple[float, Arrays]]) -> None:
        self.optimizer, self.closure = optimizer, closure
        self.params = list(optimizer.params.values())
        self.saved = [p.copy() for p in self.params]
        self.losses: list[float] = []

    def place(self, arrays: Iterable[np.ndarray]) -> None:
        for p, x in zip(self.params, arrays, strict=True):
            p[...] = x

    def restore(self) -> None:
        self.place(self.saved)

    def each(self, point: Iterable[np.ndarray]) -> tuple[float, list[np.ndarray | None]]:
        """The loss and each parameter's gradient, at a point that is a list of arrays."""
        if self.losses:  # the first point is where the model is
            self.place(point)
        loss, grads = self.closure()
        self.losses.append(float(loss))
        given: Mapping[Hashable, Any] = grads if isinstance(grads, Mapping) else dict(enumerate(grads))
        found = {k: g for k, g in given.items() if g is not None}
        for key, g in found.items():
            self.optimizer._base._check(key, g)
        return self.losses[-1], [_wide(found[k]) if k in found else None for k in self.optimizer.params]

    def flat(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """The same where a point is one vector; a gradient that is missing is zero."""
        loss, grads = self.each(_split(point, self.params))
        return loss, _flat(np.zeros_like(p) if g is None else g for p, g in zip(self.params, grads, strict=True))


def _wide(x: np.ndarray) -> np.ndarray:
    return x if x.dtype == np.float64 else x.astype(np.float32)


def _flat(arrays: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([_wide(x).ravel() for x in arrays])


def _split(point: np.ndarray, like: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The parts of a vector, in the shapes of the arrays that it is made of."""
    like = list(like)
    ends = np.cumsum([x.size for x in like])
    return [part.reshape(x.shape) for part, x in zip(np.split(point, ends[:-1]), like, strict=True)]
