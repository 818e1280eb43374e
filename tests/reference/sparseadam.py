"""SparseAdam: Kingma and Ba, arXiv 1412.6980, section 2, the form with "epsilon hat", as torch.optim.SparseAdam has it.

torch steps the elements that a sparse gradient holds; here every element has one. Weight decay, which torch has not, is
an L2 term of the gradient.
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
    learning_rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    g = g + weight_decay * x
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    alpha = learning_rate * np.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
    return x - alpha * m / (np.sqrt(v) + eps), {"exp_avg": m, "exp_avg_sq": v}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
