"""ADOPT: Taniguchi et al., arXiv 2411.02853, Algorithm 2 with the clipping of its second version.

Differs from the paper: weight decay acts in the first step too. `nesterov` is optax's.
Walks with timm 1.0's to 5e-16, by clip_exp=0.25; the bound of pytorch_optimizer 4.1 is that of the step after.
"""

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-3, beta1=0.9, beta2=0.9999, eps=1e-6, weight_decay=0.0, nesterov=False,
    use_clipping=True,
):  # fmt: skip
    if t == 1:
        return x - learning_rate * weight_decay * x, {"exp_avg": 0.0 * g, "exp_avg_sq": g**2}
    m, v = slots["exp_avg"], slots["exp_avg_sq"]
    normed = g / np.maximum(np.sqrt(v), eps)
    if use_clipping:
        normed = np.clip(normed, -((t - 1) ** 0.25), (t - 1) ** 0.25)
    m = beta1 * m + (1.0 - beta1) * normed
    u = beta1 * m + (1.0 - beta1) * normed if nesterov else m
    v = beta2 * v + (1.0 - beta2) * g**2
    return x - learning_rate * (u + weight_decay * x), {"exp_avg": m, "exp_avg_sq": v}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
