"""Schedule-free averaging: Defazio et al., arXiv 2405.15682, over any other twin, whose step from y is that of z.

The three sequences are written out, as in schedulefreeadamw.py; steps weigh (t^r) times the largest learning rate so
far to a power, and the learning rate here is the same at all steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import reference
from ._around import around
from ._walk import Array, History, Slots, Store, as_is


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    hyper = {"base": "sgd", "interpolation": 0.9, "r": 0.0, "weight_lr_power": 2.0, **hyper}
    base, beta, r, power = (hyper.pop(k) for k in ("base", "interpolation", "r", "weight_lr_power"))
    lr = hyper.get("learning_rate", 1e-3)

    def average(t: int, i: int, y: Array, after: Array, slots: Slots) -> tuple[Array, Slots]:
        z, weight = slots.get("z", y), t**r * lr**power
        total = sum(k**r * lr**power for k in range(1, t + 1))
        x = (y - (1 - beta) * z) / beta
        z = z - (y - after)
        x = x + weight / total * (z - x)
        weighted = {"weight_max": np.asarray(lr**power), "steps_averaged": np.asarray(total / weight)}
        return (1 - beta) * z + beta * x, {"z": z} | (weighted if r or power else {})

    return around(reference(base), average, params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=store)
