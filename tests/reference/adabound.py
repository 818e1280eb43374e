"""AdaBound: Luo et al., arXiv 1902.09843, Algorithms 2 and 3.

Differs from the paper as its authors' code does: Adam's corrections, no 1 / sqrt(t), an L2 term of the gradient.
"""

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, eps_root=0.0, weight_decay=0.0,
    final_ratio=100.0, gamma=1e-3, amsbound=False,
):  # fmt: skip
    g = g + weight_decay * x
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    now = {"exp_avg": m, "exp_avg_sq": v}
    if amsbound:
        now["max_exp_avg_sq"] = v = np.maximum(slots.get("max_exp_avg_sq", 0.0), v)
    rate = learning_rate * np.sqrt(1.0 - beta2**t) / (1.0 - beta1**t) / (np.sqrt(v + eps_root) + eps)
    lower, upper = (final_ratio * learning_rate * f for f in (1.0 - 1.0 / (gamma * t + 1.0), 1.0 + 1.0 / (gamma * t)))
    return x - np.clip(rate, lower, upper) * m, now


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
