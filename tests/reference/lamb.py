"""LAMB: You et al., arXiv 1904.00962 (version 5), Algorithm 2, with phi the identity and one layer per leaf.

Not in the algorithm but in the authors' code and in every other: the trust ratio is 1 where the norm of the
parameter or of the update is 0, else a leaf that starts at 0 would stay there. `eps_root` as in adam.py.
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
    eps: float = 1e-6,
    eps_root: float = 0.0,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    m_hat = m / (1.0 - beta1**t)
    v_hat = v / (1.0 - beta2**t)
    r = m_hat / (np.sqrt(v_hat + eps_root) + eps) + weight_decay * x
    norm_x, norm_r = np.sqrt(np.sum(x**2)), np.sqrt(np.sum(r**2))
    trust = 1.0 if norm_x == 0.0 or norm_r == 0.0 else norm_x / norm_r
    return x - learning_rate * trust * r, {"exp_avg": m, "exp_avg_sq": v}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
