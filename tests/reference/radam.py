"""RAdam: Liu et al., arXiv 1908.03265, Algorithm 2.

Differs from the paper as torch.optim.RAdam does: v is used where rho_t is above 5 (`threshold`) instead of 4; eps is
added to the root of the uncorrected v; weight decay is an L2 term of the gradient unless `decoupled_weight_decay`, and
then multiplied by the learning rate. `eps_root` as in adam.py.
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
    eps_root: float = 0.0,
    threshold: float = 5.0,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
) -> tuple[Array, Slots]:
    decayed = learning_rate * weight_decay * x if decoupled_weight_decay else 0.0
    if not decoupled_weight_decay:
        g = g + weight_decay * x
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    m_hat = m / (1.0 - beta1**t)
    rho_inf = 2.0 / (1.0 - beta2) - 1.0
    rho = rho_inf - 2.0 * t * beta2**t / (1.0 - beta2**t)
    if rho > threshold:
        r = np.sqrt((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))
        # eps beside the root of the uncorrected v; eps_root beside the corrected v, as optax has it
        root = np.sqrt(v + eps_root * (1.0 - beta2**t))
        m_hat = m_hat * r * np.sqrt(1.0 - beta2**t) / (root + eps)
    return x - decayed - learning_rate * m_hat, {"exp_avg": m, "exp_avg_sq": v}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
