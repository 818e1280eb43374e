"""AdaBelief: Zhuang et al., arXiv 2010.07468, Algorithm 2.

Differs from the paper as its authors' package and optax do: eps_root is added to s in each step and stays in it.
`nesterov` is Dozat 2016 with a constant momentum.
"""

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-16, eps_root=1e-16, weight_decay=0.0,
    nesterov=False,
):  # fmt: skip
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    s = beta2 * slots.get("exp_avg_var", 0.0) + (1.0 - beta2) * (g - m) ** 2 + eps_root
    m_hat = m / (1.0 - beta1**t)
    if nesterov:
        m_hat = beta1 * m / (1.0 - beta1 ** (t + 1)) + (1.0 - beta1) * g / (1.0 - beta1**t)
    u = m_hat / (np.sqrt(s / (1.0 - beta2**t)) + eps)
    return x - learning_rate * (u + weight_decay * x), {"exp_avg": m, "exp_avg_var": s}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
