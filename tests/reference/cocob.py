"""COCOB: Orabona and Tommasi, arXiv 1705.07795, Algorithm 2.

Differs from the paper: gradients are multiplied by the learning rate, as in optax. A parameter stays where
it is as long as its gradients are 0 and eps is, as 16 bits may make it.
"""

import numpy as np

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=1.0, alpha=100.0, eps=1e-8, weight_decay=0.0):
    g = learning_rate * (g + weight_decay * x)
    x0 = slots.get("init_particles", x)
    largest = np.maximum(slots.get("scale", eps), np.abs(g))
    total = slots.get("subgradients", 0.0) + np.abs(g)
    reward = np.maximum(slots.get("reward", 0.0) - g * (x - x0), 0.0)
    theta = slots.get("cumulative_gradients", 0.0) - g
    bet = theta / (largest * np.maximum(total + largest, alpha * largest)) * (largest + reward)
    return x0 + np.where(largest == 0, 0.0, bet), {
        "init_particles": x0, "cumulative_gradients": theta, "scale": largest, "subgradients": total, "reward": reward,
    }  # fmt: skip


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
