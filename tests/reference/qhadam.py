"""QHAdam: Ma and Yarats, arXiv 1810.06801, Algorithm 2.

Differs from the paper: weight decay, decoupled; eps_root, which is 0 in the paper.
"""

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-3, beta1=0.995, beta2=0.999, nu1=0.7, nu2=1.0, eps=1e-8, eps_root=0.0,
    weight_decay=0.0,
):  # fmt: skip
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    mean, square = (1.0 - nu1) * g + nu1 * m / (1.0 - beta1**t), (1.0 - nu2) * g**2 + nu2 * v / (1.0 - beta2**t)
    u = mean / (np.sqrt(square + eps_root) + eps)
    return x - learning_rate * (u + weight_decay * x), {"exp_avg": m, "exp_avg_sq": v}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
