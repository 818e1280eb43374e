"""StableAdamW: Wortsman et al., arXiv 2304.13013, Algorithm 2."""

import numpy as np

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=1e-3, beta1=0.9, beta2=0.99, eps=1e-6, weight_decay=1e-2):
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    u = v / (1.0 - beta2**t)
    rms = np.sqrt(np.sum(g**2 / np.maximum(u, eps**2)) / max(g.size, 1))
    rate = learning_rate / np.maximum(1.0, rms)
    x = x - rate * weight_decay * x - rate * m / (1.0 - beta1**t) / (np.sqrt(u) + eps)
    return x, {"exp_avg": m, "exp_avg_sq": v}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
