"""Optimistic Adam: Daskalakis et al., arXiv 1711.00141, Algorithm 1, whose step is 2 lr r - lr r'.

Differs from the paper as optax does: at the first step the last direction is the direction itself, and the weight of
the change of the direction need not be the learning rate.
"""

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, eps_root=0.0, nesterov=False,
    optimism=None, weight_decay=0.0,
):  # fmt: skip
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    mean = m / (1.0 - beta1**t)
    if nesterov:
        mean = beta1 * m / (1.0 - beta1 ** (t + 1)) + (1.0 - beta1) * g / (1.0 - beta1**t)
    r = mean / (np.sqrt(v / (1.0 - beta2**t) + eps_root) + eps)
    optimism = learning_rate if optimism is None else optimism
    x = x - learning_rate * (r + weight_decay * x) - optimism * (r - slots.get("previous_direction", r))
    return x, {"exp_avg": m, "exp_avg_sq": v, "previous_direction": r}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
