"""MADGRAD: Defazio and Jelassi, arXiv 2101.11075, Algorithm 1.

Differs from the paper as its authors' package does: eps is added to the learning rate too, except to one of 0.
"""

import numpy as np

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=1e-2, momentum=0.9, eps=1e-6, weight_decay=0.0):
    g = g + weight_decay * x
    scale = (learning_rate + eps) * np.sqrt(t) if learning_rate else 0.0
    s = slots.get("s", 0.0) + scale * g
    v = slots.get("grad_sum_sq", 0.0) + scale * g**2
    root = np.cbrt(v) + eps
    x0 = slots.get("x0", x)
    z = x0 - np.where(root == 0, 0.0, s / root)
    return momentum * x + (1.0 - momentum) * z, {"grad_sum_sq": v, "s": s, "x0": x0}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
