"""Numpy arrays stepped by an optimizer that evaluates the model: the counterpart of `HostOptimizer`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import bad_type, bad_value
from ..numpy_arrays import Arrays, all_finite
from ..numpy_optimizer import HostOptimizer
from ..numpy_state import FORMAT_VERSION, Saved
from ..registry import get
from ..rule import Rule
from ._search import NUMPY, check_closure, drive, is_finite
from .lbfgs import LBFGS
from .sam import SAM

_CALL = "ClosureOptimizer"
_RETURNS = "returns the loss and the gradients, a dict or list of arrays like the parameters"


class ClosureOptimizer:
    """Steps a dict or list of numpy arrays in place by a rule that evaluates the model inside its step.

    Arguments:
      rule: a rule such as `LBFGS(line_search_fn="strong_wolfe")` or `SAM("adamw")`, or its name.
      params: arrays as `HostOptimizer` takes them.
      options: `kernel`, `state_dtype`, `threads` and `skip_nonfinite`, as `HostOptimizer` takes them. A step of L-BFGS
        is one to skip where loss or gradient are not finite at its first point; none ends at such a point.

    Example:
      >>> import numpy as np
      >>> from scirs2_adapters.core import ClosureOptimizer
      >>> params = {"w": np.ones(3)}
      >>> optimizer = ClosureOptimizer("lbfgs", params)
      >>> optimizer.step(lambda: (float(params["w"] @ params["w"]), {"w": 2 * params["w"]}))
      3.0
    """

    __module__ = "scirs2_adapters.core"  # which pickles name

    def __init__(self, rule: Rule | str, params: Arrays, **options: Any) -> None:
        resolved = get(rule)() if isinstance(rule, str) else rule
        if not isinstance(resolved, (LBFGS, SAM)):
            worded = "must be a rule that evaluates the model, such as LBFGS() or SAM(), or its name"
            raise bad_type(_CALL, "rule", worded, rule, "Use HostOptimizer for the others.")
        self.rule: LBFGS | SAM = resolved
        # for L-BFGS it only checks the parameters and the gradients
        self._base = HostOptimizer(resolved.base if isinstance(resolved, SAM) else "sgd", params, **options)
        self.memory: dict[str, Any] = {}

    @property
    def params(self) -> Mapping[Hashable, np.ndarray]:
        """The arrays that the caller's dict or list has now."""
        return self._base.params

    @property
    def skipped_steps(self) -> int:
        """How many steps were left out by `skip_nonfinite`."""
        return self._base.skipped_steps

    def step(self, closure: Callable[[], tuple[float, Arrays]]) -> float:
        """One step, in place; `closure()` looks at the parameters as they are and returns (loss, gradients).

        The loss returned is the one before the step. If the closure raises, parameters are as they were.
        """
        check_closure(_CALL, closure, _RETURNS)
        evaluations = _Evaluations(self._base, closure)
        try:
            if isinstance(self.rule, LBFGS):
                self._search(self.rule, evaluations)
                return evaluations.losses[0]
            x = [_wide(p) for p in evaluations.params]
            grads: Any = drive(self.rule.search(NUMPY, [self.rule] * len(x), x), evaluations.each_finite)
        except BaseException as error:
            evaluations.restore()
            if not isinstance(error, _NotFinite):
                raise
            self._base.skipped_steps += 1
            return evaluations.losses[0]
        evaluations.restore()
        self._base.step(dict(zip(self.params, grads, strict=True)))
        return evaluations.losses[0]

    def _search(self, rule: LBFGS, evaluations: _Evaluations) -> None:
        point, memory = drive(rule.search(NUMPY, _flat(evaluations.params), self.memory), evaluations.flat)
        values = zip(evaluations.finite, evaluations.losses, strict=False)
        if self._base.skip_nonfinite and not any(finite and is_finite(loss) for finite, loss in values):
            raise _NotFinite
        evaluations.place(_split(point, evaluations.params))
        self.memory = memory

    def state_dict(self) -> Saved:
        """A copy of all memory by name."""
        kept = {"base": self._base.state_dict(), "memory": copy.deepcopy(self.memory)}
        return {"format_version": FORMAT_VERSION, "rule": self.rule.name, **kept}

    def load_state_dict(self, saved: Saved, *, strict: bool = True) -> None:
        """Take over memory saved by `state_dict`; a dict that does not fit is refused before anything is changed."""
        call = f"{_CALL}.load_state_dict"
        if not isinstance(saved, Mapping) or not all(isinstance(saved.get(k), Mapping) for k in ("base", "memory")):
            raise bad_type(call, "saved", "must be what `state_dict` returned", saved)
        if saved.get("rule") != self.rule.name:
            raise bad_value(call, "saved", f"must be of the optimizer {self.rule.name}", saved.get("rule"))
        size = sum(p.size for p in self.params.values())
        for name, value in saved["memory"].items():
            for x in value if isinstance(value, list) else [value]:
                if isinstance(x, np.ndarray) and x.shape != (size,):
                    raise bad_value(call, f"saved['memory'][{name!r}]", f"must be of {size} elements", x)
        self._base.load_state_dict(saved["base"], strict=strict)
        self.memory = copy.deepcopy(dict(saved["memory"]))


class _NotFinite(Exception):
    """The step is to be skipped."""


class _Evaluations:
    """Evaluates the model at the points of a search, and puts its parameters back."""

    def __init__(self, base: HostOptimizer, closure: Callable[[], tuple[float, Arrays]]) -> None:
        self.base, self.closure, self.keys = base, closure, list(base.params)
        self.params = list(base.follow(self.keys).values())
        self.saved = [p.copy() for p in self.params]
        self.losses: list[float] = []
        self.finite: list[bool] = []

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
        by_key: Mapping[Hashable, Any] = grads if isinstance(grads, Mapping) else dict(enumerate(grads))
        gradients = {k: g for k, g in by_key.items() if g is not None}
        for key, g in gradients.items():
            self.base.check_gradient(key, g)
        for key, p in zip(self.keys, self.params, strict=True):
            if self.base.params.get(key) is not p:
                worded = "must leave each parameter the array that it is"
                raise bad_value(f"{_CALL}.step", "closure", worded, f"another array for {key!r}")
        if self.base.skip_nonfinite:
            self.finite.append(all_finite(list(gradients.values())))
        return self.losses[-1], [_wide(gradients[k]) if k in gradients else None for k in self.keys]

    def each_finite(self, point: Iterable[np.ndarray]) -> tuple[float, list[np.ndarray | None]]:
        """The same; raises an error if the step is to be skipped."""
        answer = self.each(point)
        if self.finite and not self.finite[-1]:
            raise _NotFinite
        return answer

    def flat(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """The same for a point that is one vector; a missing gradient counts as zero."""
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
