"""CAME: Luo et al., arXiv 2307.02047, Algorithm 2, as the authors' package came-pytorch runs it.

As there, eps2 is added to the squared distance, vectors keep all squares and have no confidence, and leaves of more
than two dimensions are stacks of matrices over their last two. Row and column slots keep the reduced dimension with
length 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk
from .adafactor import mean


def moved(slots: Slots, name: str, x: Array, beta: float) -> tuple[Array, Array, Array]:
    """The row and column means, and the outer product that stands for the mean of x."""
    r = beta * slots.get(f"{name}_row", 0.0) + (1.0 - beta) * mean(x, axis=-1)
    c = beta * slots.get(f"{name}_col", 0.0) + (1.0 - beta) * mean(x, axis=-2)
    return r, c, r * c / mean(r, axis=-2)


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 2e-4, beta1: float = 0.9,
    beta2: float = 0.999, beta3: float = 0.9999, eps1: float = 1e-30, eps2: float = 1e-16, clip_threshold: float = 1.0,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    new: Slots = {}
    if g.ndim > 1:
        new["exp_avg_sq_row"], new["exp_avg_sq_col"], v = moved(slots, "exp_avg_sq", g**2 + eps1, beta2)
    else:
        v = new["exp_avg_sq"] = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * (g**2 + eps1)
    u = g / np.sqrt(v)
    u = u / max(1.0, np.sqrt(mean(u**2)) / clip_threshold)
    m = new["exp_avg"] = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * u
    if g.ndim > 1:
        new["exp_avg_res_row"], new["exp_avg_res_col"], s = moved(slots, "exp_avg_res", (u - m) ** 2 + eps2, beta3)
        m = m / np.sqrt(s)
    return x - learning_rate * (m + weight_decay * x), new


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
