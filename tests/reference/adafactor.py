"""Adafactor: Shazeer and Stern, arXiv 1804.04235, Algorithms 4 (matrices) and 5 (vectors), as torch documents it.

Differs from the paper as torch does: means in place of sums; eps1 is a floor under the row mean and, squared, under
the estimate, not added to g^2; the learning rate bounds the relative step (the paper's 0.01) and scales a decoupled
weight decay. beta1 is the paper's momentum (its section 6): a mean of the steps. What torch leaves out is as in
optax and transformers: `factored`, `min_dim_size_to_factor`, `decay_offset`, `scale_parameter`, `relative_step`,
`warmup_init`. Leaves of more than two dimensions are stacks of matrices over their last two; row_var and col_var keep
the reduced dimension with length 1. torch takes the default of eps1 from the parameter's dtype; a float64 twin
cannot know that dtype, so the caller passes eps1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def mean(x: Array, axis: int | None = None) -> Array:
    """The mean, and 0 for nothing at all, so that empty leaves pass through."""
    count = x.size if axis is None else x.shape[axis]
    return np.sum(x, axis=axis, keepdims=axis is not None) / max(count, 1)


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-2, beta2_decay: float = -0.8, eps1:
    float = float(np.finfo(np.float32).eps), eps2: float = 1e-3, clip_threshold: float = 1.0, beta1: float = 0.0,
    factored: bool = True, min_dim_size_to_factor: int = 0, decay_offset: float = 0.0, scale_parameter: bool =
    True, relative_step: bool = True, warmup_init: bool = False, weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    one_minus_beta2 = max(t - decay_offset, 1.0) ** beta2_decay
    beta2 = 1.0 - one_minus_beta2
    rate = min(learning_rate, 1.0 / np.sqrt(t)) if relative_step else learning_rate
    rate = min(rate, 1e-6 * t) if warmup_init else rate
    alpha = max(eps2, np.sqrt(mean(x**2))) * rate if scale_parameter else rate
    if factored and g.ndim >= 2 and min(g.shape[-2:]) >= min_dim_size_to_factor:
        r = beta2 * slots.get("row_var", 0.0) + one_minus_beta2 * mean(g**2, axis=-1)
        c = beta2 * slots.get("col_var", 0.0) + one_minus_beta2 * mean(g**2, axis=-2)
        v = r * c / np.maximum(mean(r, axis=-2), eps1)
        slots_now = {"row_var": r, "col_var": c}
    else:
        v = beta2 * slots.get("variance", 0.0) + one_minus_beta2 * g**2
        slots_now = {"variance": v}
    u = g / np.sqrt(np.maximum(v, eps1**2))
    u = alpha * u / max(1.0, np.sqrt(mean(u**2)) / clip_threshold)
    if beta1:
        u = slots_now["exp_avg"] = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * u
    return x - learning_rate * weight_decay * x - u, slots_now


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
