"""Signum: Bernstein et al., arXiv 1802.04434, Algorithm 2. Differs from the paper: weight decay is decoupled."""

import numpy as np

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=1e-4, momentum=0.9, weight_decay=0.0):
    m = momentum * slots.get("exp_avg", 0.0) + (1.0 - momentum) * g
    return x - learning_rate * (np.sign(m) + weight_decay * x), {"exp_avg": m}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
