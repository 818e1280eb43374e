"""Optimistic gradient descent: Mokhtari, Ozdaglar and Pattathil, arXiv 1901.08511, equation (12).

Differs from the paper: at the first step the last gradient is the gradient itself, as in optax.
"""

from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=1e-3, alpha=1.0, beta=1.0, weight_decay=0.0):
    u = (alpha + beta) * g - beta * slots.get("previous_grad", g)
    return x - learning_rate * (u + weight_decay * x), {"previous_grad": g}


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
