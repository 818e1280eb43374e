"""AdamaxW: Kingma and Ba, arXiv 1412.6980, Algorithm 2, with the decay of Loshchilov and Hutter, arXiv 1711.05101."""

from . import adamax
from ._walk import as_is, walk


def step(t, x, g, slots, *, learning_rate=2e-3, weight_decay=1e-4, **hyper):
    stepped, slots = adamax.step(t, x, g, slots, learning_rate=learning_rate, **hyper)
    return stepped - learning_rate * weight_decay * x, slots


def trajectory(params, grads, *, hyper, matrix_dtype=float, store=as_is):
    return walk(params, grads, step, hyper=hyper, store=store)
