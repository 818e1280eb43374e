"""Adamax: Kingma and Ba, arXiv 1412.6980, Algorithm 2.

Differs from the paper as torch.optim.Adamax does: eps, which the algorithm lacks, is added to |g| inside the maximum;
weight decay is an L2 term of the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int,
    x: Array,
    g: Array,
    slots: Slots,
    *,
    learning_rate: float = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    g = g + weight_decay * x
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    u = np.maximum(beta2 * slots.get("exp_inf", 0.0), np.abs(g) + eps)
    return x - learning_rate / (1.0 - beta1**t) * m / u, {"exp_avg": m, "exp_inf": u}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
