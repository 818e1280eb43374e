"""Adam: Kingma and Ba, arXiv 1412.6980, Algorithm 1. AMSGrad: Reddi et al., arXiv 1904.09237, Algorithm 2.

Differs from the papers as torch.optim.Adam does: AMSGrad keeps the maximum of the uncorrected v and corrects its
bias afterwards (the paper corrects nothing); weight decay is an L2 term of the gradient, which Algorithm 1 does not
have. `eps_root` is optax's: a second epsilon, under the root, 0 in the paper.

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
    weight_decay: float = 0.0,
    amsgrad: bool = False,
    nesterov: bool = False,
) -> tuple[Array, Slots]:
    g = g + weight_decay * x
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    slots_now = {"exp_avg": m, "exp_avg_sq": v}
    if amsgrad:
        slots_now["max_exp_avg_sq"] = v = np.maximum(slots.get("max_exp_avg_sq", 0.0), v)
    m_hat = m / (1.0 - beta1**t)
    if nesterov:
        m_hat = beta1 * m / (1.0 - beta1 ** (t + 1)) + (1.0 - beta1) * g / (1.0 - beta1**t)
    v_hat = v / (1.0 - beta2**t)
    return x - learning_rate * m_hat / (np.sqrt(v_hat + eps_root) + eps), slots_now


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
