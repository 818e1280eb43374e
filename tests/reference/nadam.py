"""NAdam: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016, as torch.optim.NAdam has it.

The momentum's schedule is the one of the paper's section 3 with psi = `momentum_decay`; an infinite one is a constant
momentum. Weight decay is an L2 term of the gradient unless `decoupled_weight_decay`, and then multiplied by the
learning rate. `eps_root` as in adam.py. The running product is kept in float64, torch has it in float32.
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
    eps_root: float = 0.0,
    momentum_decay: float = 4e-3,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
) -> tuple[Array, Slots]:
    decayed = learning_rate * weight_decay * x if decoupled_weight_decay else 0.0
    if not decoupled_weight_decay:
        g = g + weight_decay * x
    mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    product = slots.get("mu_product", 1.0) * mu
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    m_bar = mu_next * m / (1.0 - product * mu_next) + (1.0 - mu) * g / (1.0 - product)
    x = x - decayed - learning_rate * m_bar / (np.sqrt(v / (1.0 - beta2**t) + eps_root) + eps)
    return x, {"mu_product": np.asarray(product), "exp_avg": m, "exp_avg_sq": v}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
