"""Adafactor as optax has it: `optax.adafactor` and `optax.scale_by_factored_rms`, version 0.2.8, with our words.

Differs from PyTorch's (adafactor.py): of more than two axes the two longest are factored over, and of none, or of a
shorter one than `min_dim_size_to_factor`, no statistics are factored; eps1 is added to g^2 and bounds nothing; the
learning rate is no bound but a factor, in front of the parameter's scale; weight decay is no part of that and not
multiplied by the learning rate. `row_var` is optax's v_row, the mean over the longest axis, which keeps its place here
with length 1; `col_var` is the mean over the other one.

Of axes of equal length the last is the longest, which is how a stable sort has them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk
from .adafactor import mean


def longest(shape: tuple[int, ...], least: int) -> tuple[int, int] | None:
    """The second longest and the longest axis, unless there are none or the former is too short."""
    order = sorted(range(len(shape)), key=lambda axis: (shape[axis], axis))
    return (order[-2], order[-1]) if len(shape) >= 2 and shape[order[-2]] >= least else None


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1.0, beta2_decay: float = -0.8, eps1:
    float = 1e-30, eps2: float = 1e-3, clip_threshold: float = 1.0, beta1: float = 0.0, factored: bool = True,
    min_dim_size_to_factor: int = 128, decay_offset: float = 0.0, scale_parameter: bool = True, relative_step:
    bool = False, warmup_init: bool = False, weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    decay = 1.0 - max(t - decay_offset, 1.0) ** beta2_decay
    square = g**2 + eps1
    axes = longest(g.shape, min_dim_size_to_factor) if factored else None
    if axes is not None:
        d1, d0 = axes
        r = decay * slots.get("row_var", 0.0) + (1.0 - decay) * mean(square, axis=d0)
        c = decay * slots.get("col_var", 0.0) + (1.0 - decay) * mean(square, axis=d1)
        u = g * (r / mean(r, axis=d1)) ** -0.5 * c**-0.5
        slots_now = {"row_var": r, "col_var": c}
    else:
        v = decay * slots.get("variance", 0.0) + (1.0 - decay) * square
        u, slots_now = g * v**-0.5, {"variance": v}
    u = u / max(1.0, np.sqrt(mean(u**2)) / clip_threshold)
    rate = min(learning_rate, 1.0 / np.sqrt(t)) if relative_step else learning_rate
    u = u * (min(rate, 1e-6 * t) if warmup_init else rate)
    if scale_parameter:
        u = u * max(eps2, np.sqrt(mean(x**2)))
    if beta1:
        u = slots_now["exp_avg"] = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * u
    return x - (u + weight_decay * x), slots_now


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
