"""Yogi: Zaheer et al., NeurIPS 2018, Algorithm 2.

Differs from the paper as optax does: both means begin at `initial_accumulator_value` and are corrected as Adam's are.
"""

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-2, beta1=0.9, beta2=0.999, eps=1e-3, eps_root=0.0, weight_decay=0.0,
    initial_accumulator_value=1e-6,
):  # fmt: skip
    m = beta1 * slots.get("exp_avg", initial_accumulator_value) + (1.0 - beta1) * g
    v = slots.get("exp_avg_sq", initial_accumulator_value)
    v = v - (1.0 - beta2) * np.sign(v - g**2) * g**2
    u = m / (1.0 - beta1**t) / (np.sqrt(v / (1.0 - beta2**t) + eps_root) + eps)
    return x - learning_rate * (u + weight_decay * x), {"exp_avg": m, "exp_avg_sq": v}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
