"""Adagrad: Duchi, Hazan and Singer, JMLR 12 (2011), figure 1 with the diagonal matrix, as torch.optim.Adagrad has it.

Differs from the paper as torch does: delta is added to the root; the learning rate decays with 1 / (1 + (t - 1) c);
weight decay is an L2 term of the gradient; the sums of squares may begin above 0.
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
    lr_decay: float = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    g = g + weight_decay * x
    s = slots.get("sum", initial_accumulator_value) + g**2
    eta = learning_rate / (1.0 + (t - 1.0) * lr_decay)
    return x - eta * g / (np.sqrt(s) + eps), {"sum": s}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
