"""LaProp: Ziyin et al., arXiv 2002.04839, Algorithm 1. Differs from the paper: weight decay times the learning rate."""

import numpy as np

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=4e-4, beta1=0.9, beta2=0.999, eps=1e-15, eps_root=0.0, weight_decay=0.0):
    n = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    normed = g / (np.sqrt(n / (1.0 - beta2**t) + eps_root) + eps)
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * normed
    return x - learning_rate * (m / (1.0 - beta1**t) + weight_decay * x), {"exp_avg": m, "exp_avg_sq": n}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
