"""Fromage: Bernstein, Vahdat, Yue and Liu, arXiv 2002.03432, Algorithm 1, one layer per leaf.

Where a norm is 0, the ratio is 1, as in its authors' code; `min_norm` is optax's; weight decay is decoupled and in no
code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-2, min_norm: float = 0.0,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    norm_x, norm_g = (max(np.sqrt(np.sum(y**2)), min_norm) for y in (x, g))
    ratio = 1.0 if norm_x == 0.0 or norm_g == 0.0 else norm_x / norm_g
    stepped = (x - learning_rate * ratio * g) / np.sqrt(1.0 + learning_rate**2)
    return stepped - learning_rate * weight_decay * x, {}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
