"""SophiaG: Liu et al., arXiv 2305.14342, Algorithm 3, with the estimator of Algorithm 2, as in their `sophia.py`: eps
is added to the divisor, and the estimate is the gradient's square, times the size of the batch in the divisor.

The estimate, which theirs takes in `update_hessian`, is a step here with `estimating`. Walks with that file's to 4e-15.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-4, beta1: float = 0.965,
    beta2: float = 0.99, gamma: float = 0.04, batch_size: float = 5120.0, eps: float = 1e-15, weight_decay: float = 0.1,
    estimating: bool = False,
) -> tuple[Array, Slots]:  # fmt: skip
    m, h = (slots.get(name, np.zeros(x.shape)) for name in ("exp_avg", "hessian"))
    if estimating:
        return x, {"exp_avg": m, "hessian": beta2 * h + (1.0 - beta2) * g**2}
    m = beta1 * m + (1.0 - beta1) * g
    u = np.sign(m) * np.minimum(1.0, np.abs(m) / (gamma * batch_size * h + eps))
    return x - learning_rate * (weight_decay * x + u), {"exp_avg": m, "hessian": h}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
