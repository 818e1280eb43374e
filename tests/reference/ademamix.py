"""AdEMAMix: Pagliardini et al., arXiv 2409.03137, Algorithm 1 and its schedules of alpha and beta3."""

import math

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-3, beta1=0.9, beta2=0.999, beta3=0.9999, alpha=5.0, t_alpha=0,
    t_beta3=0, eps=1e-8, eps_root=0.0, weight_decay=0.0,
):  # fmt: skip
    if t_alpha:
        alpha = min(t / t_alpha, 1.0) * alpha
    if t_beta3 and t < t_beta3:
        start, end, share = math.log(max(beta1, 1e-8)), math.log(max(beta3, 1e-8)), t / t_beta3
        beta3 = math.exp(start * end / ((1.0 - share) * end + share * start))
    m1 = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    m2 = beta3 * slots.get("exp_avg_slow", 0.0) + (1.0 - beta3) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    u = (m1 / (1.0 - beta1**t) + alpha * m2) / (np.sqrt(v / (1.0 - beta2**t) + eps_root) + eps)
    return x - learning_rate * (u + weight_decay * x), {"exp_avg": m1, "exp_avg_slow": m2, "exp_avg_sq": v}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
