"""Schedule-Free AdamW: Defazio et al., arXiv 2405.15682, as the authors' package schedulefree 1.4 has it.

The three sequences are written out, in schedulefreesgd.py: x is recovered from y and z, z is stepped, x averaged and y
interpolated. Weight decay is taken at y; the weights of the average are (t^r) times the largest learning rate so far to
a power.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk
from .schedulefreesgd import averaged


def step(
    t: int, y: Array, g: Array, slots: Slots, *, learning_rate: float = 2.5e-3, beta1: float = 0.9, beta2: float =
    0.999, eps: float = 1e-8, warmup_steps: int = 0, r: float = 0.0, weight_lr_power: float = 2.0, weight_decay: float =
    0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    lr = learning_rate * (min(1.0, t / warmup_steps) if warmup_steps else 1.0)
    v = beta2 * slots.get("exp_avg_sq", np.zeros_like(y)) + (1 - beta2) * g**2
    direction = g / (np.sqrt(v / (1 - beta2**t)) + eps) + weight_decay * y
    return averaged(t, y, direction, lr, slots, {"exp_avg_sq": v}, beta1, r, weight_lr_power)


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
