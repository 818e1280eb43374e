"""The penalty of the linear estimators, and how l1 makes coefficients exactly 0 under any rule for which that is sound.

penalty = alpha * ((1 - l1_ratio) / 2 * |coef|_2^2 + l1_ratio * |coef|_1)

The l2 part is added to the gradient. |c| has no derivative at 0, so l1 is another step:

- Gradient descent without momentum is followed by the proximal operator of lr * l1 * |c|, soft thresholding:
  c = sign(c) max(0, |c| - lr * l1).
- Other rules that step each number by itself take the pseudo-gradient, the derivative of smallest size that the
  penalised loss has on either side, and what crosses 0 stops there: the orthant-wise step of Andrew and Gao, ICML 2007.
  Its fixed points are those of the proximal step, whatever positive step size a rule has for a coefficient, so that
  that need not be known.
- A rule that computes its memory from parameters would not see that a coefficient was set to 0, and one that takes
  tensors as a whole has no step size for a coefficient: they are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scirs2_adapters.core import Rule
from scirs2_adapters.core.errors import bad_value
from scirs2_adapters.core.program.recorded import Program, record
from scirs2_adapters.core.slots import Leaf

PENALTIES = ("l2", "l1", "elasticnet")


class Strengths(NamedTuple):
    """What multiplies half the squares and the absolute values of the coefficients."""

    l2: float
    l1: float

    def of(self, coef: np.ndarray) -> np.ndarray:
        """The penalty of each output's coefficients."""
        rows = np.atleast_2d(coef)
        squares = 0.5 * self.l2 * np.sum(rows**2, axis=1)
        return squares + self.l1 * np.sum(np.abs(rows), axis=1) if self.l1 else squares


def strengths(penalty: str | None, alpha: float, l1_ratio: float) -> Strengths:
    """Both parts of a penalty."""
    share = {"l2": 0.0, "l1": 1.0, "elasticnet": l1_ratio}
    return Strengths(0.0, 0.0) if penalty is None else Strengths(alpha * (1 - share[penalty]), alpha * share[penalty])


def is_proximal(rule: Rule) -> bool:
    """Whether its step is a multiple of the gradient, the learning rate: then the proximal operator is known."""
    return rule.name == "sgd" and getattr(rule, "momentum", None) == 0


def soft_threshold(x: np.ndarray, threshold: np.ndarray | float) -> None:
    """Move each number towards 0 by the threshold, and no further, in place."""
    x -= np.clip(x, -threshold, threshold)


def pseudo_gradient(x: np.ndarray, slope: np.ndarray, l1: np.ndarray | float) -> np.ndarray:
    """The derivative of the loss plus l1 |x| along its steepest descent; 0 where no direction descends."""
    at_zero = slope - np.clip(slope, -l1, l1)
    return np.where(x == 0, at_zero, slope + l1 * np.sign(x)).astype(x.dtype, copy=False)


def stop_at_zero(x: np.ndarray, before: np.ndarray, slope: np.ndarray) -> None:
    """Set to 0, in place, what a step took across 0, or from 0 against the descent of this pseudo-gradient."""
    x[np.sign(x) != np.where(before == 0, -np.sign(slope), np.sign(before))] = 0


def step_with_l1(
    proximal: float | None, l1: np.ndarray, coef: np.ndarray, slope: np.ndarray, step: Callable[[np.ndarray], bool]
) -> None:
    """Take a step that makes coefficients exactly 0. `step` takes a gradient and returns whether it stepped. `slope` is
    the derivative without l1; `proximal` the learning rate of a step that is a multiple of it, else None.
    """
    if proximal is not None:
        if step(slope):
            soft_threshold(coef, proximal * l1)
        return
    before, slope = coef.copy(), pseudo_gradient(coef, slope, l1)
    if step(slope):
        stop_at_zero(coef, before, slope)


def check_rule_for_l1(call: str, rule: Rule, shape: tuple[int, ...], dtype: str) -> None:
    """Refuse a rule under which no coefficient could be held at 0."""
    leaf = Leaf(shape, dtype, "coef_")
    program = record(rule.route(leaf), leaf)
    if program.levels or rule.maximize:
        why = "steps each number by itself, downwards"
    elif _remembers_parameters(program):
        why = "computes no memory from parameters"
    else:
        return
    worded = f"must be a rule that {why}, where `penalty` has an l1 part"
    way_out = 'Use another one, such as SGD, Adagrad or Adam, or `penalty="l2"`.'
    raise bad_value(call, "optimizer", worded, rule, way_out)


def _remembers_parameters(program: Program) -> bool:
    """Whether a slot depends on the parameter, weight decay aside, or is one."""
    from_params = list[bool]()
    for node in program.nodes:
        decays = any(program.nodes[a].name in ("l2", "decay") for a in node.args)
        depends = not decays and any(from_params[a] for a in node.args)
        from_params.append(depends or (node.op, node.name) == ("input", "p"))
    return any(from_params[program.outputs[s.name]] or s.initial == "parameter" for s in program.slots)
