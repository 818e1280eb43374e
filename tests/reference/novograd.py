"""NovoGrad: Ginsburg et al., arXiv 1905.11286, Algorithm 1."""

import numpy as np

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=1e-3, beta1=0.95, beta2=0.98, eps=1e-8, eps_root=0.0, weight_decay=0.0):
    square = np.sum(g**2)
    before = slots.get("exp_avg_sq", 0.0)
    v = square if before == 0 else beta2 * before + (1.0 - beta2) * square
    m = beta1 * slots.get("exp_avg", 0.0) + g / (np.sqrt(v + eps_root) + eps) + weight_decay * x
    return x - learning_rate * m, {"exp_avg": m, "exp_avg_sq": v}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
