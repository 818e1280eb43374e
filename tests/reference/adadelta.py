"""Adadelta: Zeiler, arXiv 1212.5701, Algorithm 1. `decay_rate` is its rho.

Differs from the paper as torch.optim.Adadelta does: the step is multiplied by a learning rate, of which the mean of
squared steps knows nothing, and weight decay is an L2 term of the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int,
    x: Array,
    g: Array,
    slots: Slots,
    *,
    learning_rate: float = 1.0,
    decay_rate: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    del t
    g = g + weight_decay * x
    rho, past = decay_rate, slots.get("acc_delta", np.zeros_like(x))
    mean_g = rho * slots.get("square_avg", 0.0) + (1.0 - rho) * g**2
    delta = -np.sqrt(past + eps) / np.sqrt(mean_g + eps) * g
    mean_delta = rho * past + (1.0 - rho) * delta**2
    return x + learning_rate * delta, {"square_avg": mean_g, "acc_delta": mean_delta}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
