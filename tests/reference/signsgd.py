"""SignSGD: Bernstein et al., arXiv 1802.04434, Algorithm 1. Differs from the paper: weight decay, decoupled."""

import numpy as np

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=1e-4, weight_decay=0.0):
    return x - learning_rate * (np.sign(g) + weight_decay * x), {}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
