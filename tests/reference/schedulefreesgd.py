"""Schedule-Free SGD: Defazio et al., arXiv 2405.15682, as the authors' package schedulefree 1.4 has it.

Written out as in schedulefreeadamw.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int, y: Array, g: Array, slots: Slots, *, learning_rate: float = 1.0, beta1: float = 0.9, warmup_steps: int = 0,
    r: float = 0.0, weight_lr_power: float = 2.0, weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    lr = learning_rate * (min(1.0, t / warmup_steps) if warmup_steps else 1.0)
    return averaged(t, y, g + weight_decay * y, lr, slots, {}, beta1, r, weight_lr_power)


def averaged(
    t: int, y: Array, u: Array, lr: float, slots: Slots, base_slots: Slots, beta1: float, r: float, power: float
) -> tuple[Array, Slots]:
    """The new y and slots, where z moves by lr * u."""
    z, weighted = slots.get("z", y), r != 0 or power != 0
    heaviest = max(float(slots.get("weight_max", 0.0)), lr**power) if weighted else 1.0
    weight = t**r * heaviest
    earlier = (t - 1) ** r * float(slots.get("weight_max", 1.0)) * float(slots.get("steps_averaged", t - 1))
    total = earlier + weight
    c = weight / total if total > 0 else 0.0
    x = (y - (1 - beta1) * z) / beta1
    z = z - lr * u
    x = (1 - c) * x + c * z
    now = {"z": z, **base_slots}
    if weighted:
        now |= {"weight_max": np.asarray(heaviest), "steps_averaged": np.asarray(total / weight if weight > 0 else 1.0)}
    return (1 - beta1) * z + beta1 * x, now


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
