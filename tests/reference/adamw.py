"""AdamW: Loshchilov and Hutter, arXiv 1711.05101, Algorithm 2, the decoupled variant.

AMSGrad and eps_root as in adam.py.

Differs from the paper as torch.optim.AdamW does: the decay is multiplied by the learning rate (line 12 multiplies
it by the schedule alone). Written as in line 12: gradient step and decay both start from x_{t-1}.

`nesterov` is Dozat 2016 with a constant momentum, which optax calls nadam.
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
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    nesterov: bool = False,
) -> tuple[Array, Slots]:
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    slots_now = {"exp_avg": m, "exp_avg_sq": v}
    if amsgrad:
        slots_now["max_exp_avg_sq"] = v = np.maximum(slots.get("max_exp_avg_sq", 0.0), v)
    m_hat = m / (1.0 - beta1**t)
    if nesterov:
        m_hat = beta1 * m / (1.0 - beta1 ** (t + 1)) + (1.0 - beta1) * g / (1.0 - beta1**t)
    v_hat = v / (1.0 - beta2**t)
    return x - learning_rate * (m_hat / (np.sqrt(v_hat + eps_root) + eps) + weight_decay * x), slots_now


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
