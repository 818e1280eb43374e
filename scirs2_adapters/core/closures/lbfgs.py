"""L-BFGS."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Never

from ..fields import Field, choice, count, nonnegative, rate
from ..hyperparameters import MODES
from ..rule import Rule
from ..slots import Slot
from . import _wolfe
from ._search import Search, Space, Vector, is_finite, needs_closure

#: What is remembered between steps, under torch's words: y and s of the last pairs are `old_dirs` and `old_stps`.
Memory = dict[str, Any]
#: A pair is kept only if its curvature s.y is above this.
LEAST_CURVATURE = 1e-10
#: The key under which the memory keeps the point before a step whose end was not evaluated.
UNSEEN = "last_seen"
LOG = logging.getLogger("scirs2")
STANDS = "scirs2: L-BFGS stands still at a loss of %s: no step along the steepest descent leads to a lower one."


class LBFGS(Rule, needs_closure=True):
    """Newton-like steps from how the gradient changed along the last ones: several evaluations of the model to a step,
    with or without a line search.

    d = -H g, with H from the pairs s = change of p, y = change of g:  q = -g;
      newest to oldest:  a = (s.q) / (s.y);   q = q - a * y
      q = q * (s.y) / (y.y), of the newest pair
      oldest to newest:  q = q + (a - (y.q) / (s.y)) * s;   d = q
    p = p + t * d, t = lr, or from lr by a search for the strong Wolfe conditions; up to max_iter times in one step

    Paper: Liu, Nocedal 1989, Mathematical Programming 45; Nocedal, Wright 2006, Algorithms 7.4, 3.5 and 3.6.
    Differs from the paper: without line_search_fn, t is lr (the first one min(1, 1 / sum(|g|)) times lr).
    """

    learning_rate = rate(1.0)
    max_iter = count(20, "most iterations in one step")
    max_eval = replace(count(1, "most evaluations in one step; None is 5/4 of max_iter"), default=None, optional=True)
    tolerance_grad = nonnegative(1e-7, "largest element of a gradient that ends the step")
    tolerance_change = nonnegative(1e-9, "change of loss or parameters that ends the step")
    history_size = count(100, "pairs that are remembered")
    line_search_fn = replace(
        choice(None, "the search for a step length", "strong_wolfe"), requirement='must be "strong_wolfe"'
    )
    matches = {"torch": {}}

    @classmethod
    def _declared(cls) -> dict[str, Field]:
        return {k: f for k, f in super()._declared().items() if k not in ("weight_decay", "maximize", *MODES)}

    @property
    def most_evaluations(self) -> int:
        return int(self.max_iter * 5 // 4 if self.max_eval is None else self.max_eval)

    def settled(self) -> dict[str, Any]:
        """The fields by name; a None that stands for a number is replaced by it."""
        return {k: getattr(self, k) for k in self.fields} | {"max_eval": self.most_evaluations}

    def all_slots(self) -> tuple[Slot, ...]:
        return ()

    def scalars(self, *args: object) -> Never:
        raise needs_closure(type(self).__name__)

    def search(self, space: Space, x: Vector, memory: Memory) -> Search[tuple[Vector, Memory]]:
        """One step from x, a vector of all parameters: returns the new one and the new memory, which begins as {}.

        `memory` is not changed, and no vector in it is ever written to. A step that begins at a finite point does not
        end at one that is known not to be finite.
        """
        memory = {k: list(v) if isinstance(v, list) else v for k, v in memory.items()}
        memory["n_iter"], said = memory.get("n_iter", 0), memory.get("t") == 0
        x, loss, g, evaluations = yield from self._begin(space, x, memory)
        if space.largest(g) <= self.tolerance_grad or not _finite(space, loss, g):
            return x, memory
        for iteration in range(1, self.max_iter + 1):
            memory["n_iter"] += 1
            d, slope = self._downhill(space, memory, g)
            before, last = loss, iteration == self.max_iter
            t = self.learning_rate * (_short(space, g) if memory["n_iter"] == 1 else 1.0)
            memory.update(d=d, t=t, prev_flat_grad=g, prev_loss=loss)
            if not slope <= -self.tolerance_change:
                break
            line = _wolfe.Line(space, x, d, _wolfe.Trial(0.0, loss, g, slope))
            (t, loss, g, _), trials = yield from self._length(line, t, last, evaluations, memory)
            evaluations, memory["func_evals"] = evaluations + trials, memory["func_evals"] + trials
            x, memory["t"] = (space.plus(x, t, d) if t else x), t
            spent = last or evaluations >= self.most_evaluations
            # the next step would repeat this search, unless this one has only run out of evaluations
            if t == 0 and (iteration == 1 or not spent) and _begins_anew(space, memory, g, said) and not spent:
                continue
            if spent or space.largest(g) <= self.tolerance_grad:
                break
            if space.largest(d) * t <= self.tolerance_change or abs(loss - before) < self.tolerance_change:
                break
        return x, memory

    def _begin(self, space: Space, x: Vector, memory: Memory) -> Search[tuple[Vector, float, Vector, int]]:
        """The first point, its loss and gradient, and the number of evaluations. The point is x. If x is not finite and
        was not evaluated in the last step, it is the point before that step, provided that this one is finite.
        """
        unseen, evaluations = memory.pop(UNSEEN, None), 1
        loss, g = yield x
        if unseen is not None and not _finite(space, loss, g):
            evaluations, (other, slopes) = 2, (yield unseen)
            if _finite(space, other, slopes):  # so it was the step that led astray, and not these data
                x, loss, g = unseen, other, slopes
                _forget(space, memory, g)
        memory["func_evals"] = memory.get("func_evals", 0) + evaluations
        return x, loss, g, evaluations

    def _length(
        self, line: _wolfe.Line, t: float, last: bool, evaluations: int, memory: Memory
    ) -> Search[tuple[_wolfe.Trial, int]]:
        """The step length: by a line search, or t without one. Then the end of the last iteration is not evaluated."""
        if self.line_search_fn is not None:
            return (yield from _wolfe.search(line, t, self.tolerance_change, self.most_evaluations - evaluations))
        if last:
            memory[UNSEEN] = line.x
            return line.start._replace(t=t), 0
        loss, g = yield line.space.plus(line.x, t, line.d)
        return _wolfe.Trial(t, loss, g, 0.0) if _finite(line.space, loss, g) else line.start, 1

    def _downhill(self, space: Space, memory: Memory, g: Vector) -> tuple[Vector, float]:
        """-H g and its slope; the steepest descent if rounding has made -H g point uphill."""
        d = self._direction(space, memory, g)
        if (slope := space.dot(g, d)) >= 0 and memory["old_dirs"]:
            _forget(space, memory, g)
            d = g * -memory["H_diag"]
            slope = space.dot(g, d)
        return d, slope

    def _direction(self, space: Space, memory: Memory, g: Vector) -> Vector:
        """-H g, by two loops over the pairs, after the pair of the last iteration has been added."""
        if memory["n_iter"] == 1:
            memory.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return -g
        self._remember(space, memory, g)
        changes, steps, ro = memory["old_dirs"], memory["old_stps"], memory["ro"]
        q, weights = -g, [0.0] * len(ro)
        for i in reversed(range(len(ro))):
            weights[i] = space.dot(steps[i], q) * ro[i]
            q = space.into(q, -weights[i], changes[i])
        q = q * memory["H_diag"]
        for i in range(len(ro)):
            q = space.into(q, weights[i] - space.dot(changes[i], q) * ro[i], steps[i])
        memory["al"] = [*weights, *[None] * (self.history_size - len(weights))]
        return q

    def _remember(self, space: Space, memory: Memory, g: Vector) -> None:
        y, s = g - memory["prev_flat_grad"], memory["d"] * memory["t"]
        curvature = space.dot(y, s)
        if curvature > LEAST_CURVATURE:
            for name, value in {"old_dirs": y, "old_stps": s, "ro": 1.0 / curvature}.items():
                memory[name] = [*memory[name], value][-self.history_size :]
            memory["H_diag"] = curvature / space.dot(y, y)


def _short(space: Space, g: Vector) -> float:
    """The length of a first step, whose curvature is not known."""
    return min(1.0, 1.0 / space.total(g))


def _forget(space: Space, memory: Memory, g: Vector) -> None:
    """Drop all pairs, so that the next direction is the steepest descent."""
    memory.update(old_dirs=[], old_stps=[], ro=[], H_diag=_short(space, g), t=0)


def _begins_anew(space: Space, memory: Memory, g: Vector, said: bool) -> bool:
    """Whether the pairs were to blame for a search without a step; if so, they are dropped."""
    if not (blamed := bool(memory["old_dirs"])) and not said:
        LOG.warning(STANDS, memory["prev_loss"])
    _forget(space, memory, g)
    return blamed


def _finite(space: Space, loss: float, g: Vector) -> bool:
    return is_finite(loss, space.largest(g))
