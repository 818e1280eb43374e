"""RMSprop: Hinton, lecture 6e, slide 29. Centered and with momentum: Graves, arXiv 1308.0850, eqs. 38-41.

Differs from Graves as torch.optim.RMSprop does: eps stands outside the root, the momentum buffer is without the
learning rate, decay is L2. `rho` is torch's alpha. Differs from torch in one place: the centered variance v - a^2
is at least 0 in exact arithmetic, but rounding can make it negative when the gradient hardly changes, and torch
then takes the root of a negative number; here it is clamped at 0.

The look-ahead, the first value, eps under the root and the correction of the means are optax's options.
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
    learning_rate: float = 1e-2,
    rho: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
    nesterov: bool = False,
    eps_in_sqrt: bool = False,
    initial_scale: float = 0.0,
    bias_correction: bool = False,
) -> tuple[Array, Slots]:
    unbias = 1.0 / (1.0 - rho**t) if bias_correction else 1.0
    g = g + weight_decay * x
    v = rho * slots.get("square_avg", initial_scale) + (1.0 - rho) * g**2
    slots_now, variance = {"square_avg": v}, unbias * v
    if centered:
        slots_now["grad_avg"] = a = rho * slots.get("grad_avg", 0.0) + (1.0 - rho) * g
        variance = np.maximum(unbias * v - (unbias * a) ** 2, 0.0)
    u = g / np.sqrt(variance + eps) if eps_in_sqrt else g / (np.sqrt(variance) + eps)
    if momentum > 0.0:
        slots_now["momentum_buffer"] = b = momentum * slots.get("momentum_buffer", 0.0) + u
        u = u + momentum * b if nesterov else b
    return x - learning_rate * u, slots_now


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
