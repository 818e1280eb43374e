"""Schedule-Free AdamW: Defazio et al., arXiv 2405.15682, as the authors' package schedulefree 1.4 has it.

The three sequences are written out here: x is recovered from y and z, z is stepped, x averaged and y interpolated.
Weight decay is taken at y; the weights of the average are (t^r) times the largest learning rate so far to a power.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int, y: Array, g: Array, slots: Slots, *, learning_rate: float = 2.5e-3, beta1: float = 0.9, beta2: float =
    0.999, eps: float = 1e-8, warmup_steps: int = 0, r: float = 0.0, weight_lr_power: float = 2.0, weight_decay: float =
    0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    z, v = slots.get("z", y), slots.get("exp_avg_sq", np.zeros_like(y))
    lr = learning_rate * (min(1.0, t / warmup_steps) if warmup_steps else 1.0)
    weighted = r != 0 or weight_lr_power != 0
    heaviest = max(float(slots.get("weight_max", 0.0)), lr**weight_lr_power) if weighted else 1.0
    weight = t**r * heaviest
    earlier = (t - 1) ** r * float(slots.get("weight_max", 1.0)) * float(slots.get("steps_averaged", t - 1))
    total = earlier + weight
    c = weight / total if total > 0 else 0.0

    v = beta2 * v + (1 - beta2) * g**2
    direction = g / (np.sqrt(v / (1 - beta2**t)) + eps) + weight_decay * y
    x = (y - (1 - beta1) * z) / beta1
    z = z - lr * direction
    x = (1 - c) * x + c * z
    now = {"z": z, "exp_avg_sq": v}
    if weighted:
        now |= {"weight_max": np.asarray(heaviest), "steps_averaged": np.asarray(total / weight if weight > 0 else 1.0)}
    return (1 - beta1) * z + beta1 * x, now


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
