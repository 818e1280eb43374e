"""ACProp: Zhuang et al., arXiv 2110.05454, Algorithm 1.

Differs from the paper as optax does: deviations are from the mean before g; eps_root is added to s in each step.
"""

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-16, eps_root=1e-16, weight_decay=0.0
):  # fmt: skip
    m, s = slots.get("exp_avg", 0.0 * g), slots.get("exp_avg_var", 0.0 * g)
    root = 1.0 if t == 1 else np.sqrt(s / (1.0 - beta2 ** (t - 1)))
    x = x - learning_rate * (g / (root + eps) + weight_decay * x)
    s = beta2 * s + (1.0 - beta2) * (g - m) ** 2 + eps_root
    return x, {"exp_avg": beta1 * m + (1.0 - beta1) * g, "exp_avg_var": s}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
