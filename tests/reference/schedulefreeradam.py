"""Schedule-Free RAdam: the authors' package schedulefree 1.4, RAdamScheduleFree; Defazio et al., arXiv 2405.15682, and
Liu et al., arXiv 1908.03265, Algorithm 2, without momentum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk
from .schedulefreesgd import averaged


def step(
    t: int, y: Array, g: Array, slots: Slots, *, learning_rate: float = 2.5e-3, beta1: float = 0.9, beta2: float =
    0.999, eps: float = 1e-8, silent_sgd_phase: bool = True, r: float = 0.0, weight_lr_power: float = 2.0,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    v = beta2 * slots.get("exp_avg_sq", np.zeros_like(y)) + (1 - beta2) * g**2
    wide = np.longdouble(beta2)  # a small difference of large numbers
    rho_inf, rho = (float(x) for x in (2 / (1 - wide) - 1, 2 / (1 - wide) - 1 - 2 * t * wide**t / (1 - wide**t)))
    if rho > 4:
        rect = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        direction = g / (np.sqrt(v / (1 - beta2**t)) + eps)
    else:
        rect, direction = 0.0 if silent_sgd_phase else 1.0, g
    direction = direction + weight_decay * y
    return averaged(t, y, direction, learning_rate * rect, slots, {"exp_avg_sq": v}, beta1, r, weight_lr_power)


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
