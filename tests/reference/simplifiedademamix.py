"""SimplifiedAdEMAMix: Morwani et al., arXiv 2502.02431, Algorithm 1.

Differs from the paper as its authors' code does: v is corrected for its beginning. eps_root is optax's.
pytorch_optimizer 4.1's walks elsewhere: it averages gradients and divides twice by the root of v's correction.
"""

import numpy as np

from ._walk import as_is, walk


def step(
    t, x, g, slots, *, learning_rate=1e-3, beta1=0.99, beta2=0.95, alpha=0.0, eps=1e-8, eps_root=0.0, weight_decay=0.0
):
    m = beta1 * slots.get("momentum_buffer", 0.0) + g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    u = (m + alpha * g) / (np.sqrt(v / (1.0 - beta2**t) + eps_root) + eps)
    return x - learning_rate * (u + weight_decay * x), {"momentum_buffer": m, "exp_avg_sq": v}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
