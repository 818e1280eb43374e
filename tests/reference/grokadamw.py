"""GrokAdamW, as the package grokadamw 0.1.2 has it, but for its gamma, which is 0 here; slow gradients are Grokfast's,
Lee et al., arXiv 2405.20233, Algorithm 2. The signal is given, where the package computes it from losses.

"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-8, weight_decay: float = 1e-2, alpha_init: float = 0.98, lamb: float = 2.0,
    grokking_signal: float = 0.0, grokking_signal_decay_rate: float = 0.1, gradient_clipping: float = 1.0,
) -> tuple[Array, Slots]:  # fmt: skip
    if gradient_clipping > 0:
        g = g * np.minimum(1.0, gradient_clipping / (np.sqrt(np.sum(g**2)) + 1e-6))
    alpha = alpha_init * np.exp(-grokking_signal_decay_rate * grokking_signal)
    slow = alpha * slots.get("grok_ema", 0.0) + (1.0 - alpha) * g
    h = g + lamb * slow
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * h
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * h**2
    rate = learning_rate * np.sqrt(1.0 - beta2**t) / (1.0 - beta1**t)
    x = x - learning_rate * weight_decay * x - rate * m / (np.sqrt(v) + eps)
    return x, {"exp_avg": m, "exp_avg_sq": v, "grok_ema": slow}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
