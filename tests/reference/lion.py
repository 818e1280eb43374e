"""Lion: Chen et al., arXiv 2302.06675, Algorithm 2. Differs from the paper: nothing; sign(0) is 0.

The step uses the interpolation by beta1, the momentum is kept with beta2, and the decay is multiplied by the
learning rate.
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
    learning_rate: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    del t
    m = slots.get("exp_avg", 0.0)
    c = beta1 * m + (1.0 - beta1) * g
    m = beta2 * m + (1.0 - beta2) * g
    return x - learning_rate * (np.sign(c) + weight_decay * x), {"exp_avg": m}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
