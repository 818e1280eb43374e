"""D-Adapted Lion: no paper has it, so this is what the package dadaptation computes, with the limit of its other rules.

Its momentum holds gradients times d, and the direction mixes it with
the gradient itself, so that for a small d it is the sign of the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._dadapt import grown
from ._walk import Array, History, Slots, Store, as_is, total, walk_together


def step(
    t: int, xs: list[Array], gs: list[Array], leaves: list[Slots], model: Slots, *, learning_rate: float = 1.0,
    beta1: float = 0.9, beta2: float = 0.99, weight_decay: float = 0.0, d0: float = 1e-6,
    growth_rate: float = math.inf,
) -> tuple[list[Array], list[Slots], Slots]:  # fmt: skip
    d, c = model.get("d", d0), math.sqrt(beta2)
    k = d * learning_rate
    ahead, new, moved = [], [], []
    for x, g, slots in zip(xs, gs, leaves, strict=True):
        s, m = (slots.get(name, np.zeros_like(x)) for name in ("s", "exp_avg"))
        u = np.sign(beta1 * m + (1.0 - beta1) * g)
        ahead.append(u * s)
        new.append({"s": c * s + (1.0 - c) * k * u, "exp_avg": beta2 * m + (1.0 - beta2) * k * g})
        moved.append(x - weight_decay * k * x - k * u)
    r = c * model.get("numerator_weighted", 0.0) + (1.0 - c) * k * total(ahead)
    size = total([np.abs(slots["s"]) for slots in new])
    return moved, new, {"d": grown(d, r, (1.0 - c) * size, growth_rate), "numerator_weighted": r}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk_together(params, grads, step, hyper=hyper, store=store, copied=False)
