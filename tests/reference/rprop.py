"""Rprop: Riedmiller and Braun, IEEE ICNN 1993, as torch.optim.Rprop documents it.

Differs from the paper as torch does: where the sign of the gradient turns, the last step is not taken back; the
gradient counts as 0, also as the last one in the next step. Weight decay, which torch has not, is an L2 term.
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
    eta_minus: float = 0.5,
    eta_plus: float = 1.2,
    min_step_size: float = 1e-6,
    max_step_size: float = 50.0,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    del t
    g = np.array(g + weight_decay * x)
    direction = np.array(g * slots.get("prev", np.zeros_like(x)))
    eta = np.ones_like(x)
    eta[direction > 0.0] = eta_plus
    eta[direction < 0.0] = eta_minus
    size = np.clip(slots.get("step_size", np.full_like(x, learning_rate)) * eta, min_step_size, max_step_size)
    g[direction < 0.0] = 0.0
    return x - size * np.sign(g), {"prev": g, "step_size": size}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
