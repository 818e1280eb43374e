"""Adam-mini: Zhang et al., arXiv 2406.16793, Algorithm 1, with a block for each output of a matrix.

Heads, which are the paper's blocks of queries and keys, are in no array, gains of normalizations are vectors as biases
are, and what has more than two axes is no layer of the paper's: all have finer blocks here, which the paper allows. The
outputs of a matrix are its rows, or, where inputs come first, its columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk
from .adafactor import mean


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-3, beta1: float = 0.9,
    beta2: float = 0.999, eps: float = 1e-8, layout: str | None = None, weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    inputs, name = (-2, "col_var") if layout == "inputs_first" else (-1, "row_var")
    name, square = (name, mean(g**2, axis=inputs)) if g.ndim == 2 else ("exp_avg_sq", g**2)
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get(name, 0.0) + (1.0 - beta2) * square
    m_hat, v_hat = m / (1.0 - beta1**t), v / (1.0 - beta2**t)
    return x - learning_rate * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * x), {"exp_avg": m, name: v}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
