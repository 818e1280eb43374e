"""Tiger: Su, kexue.fm/archives/9512. Differs from it as pytorch_optimizer's does: no rate of its own by parameter.

Walks with that of version 4.1 to 2e-15.
"""

import numpy as np

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=1e-3, momentum=0.965, weight_decay=1e-2):
    m = momentum * slots.get("exp_avg", 0.0) + (1.0 - momentum) * g
    return x - learning_rate * (np.sign(m) + weight_decay * x), {"exp_avg": m}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
