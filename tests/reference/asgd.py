"""Averaged SGD: Polyak and Juditsky, SIAM J. Control Optim. 1992, with Bottou's step sizes, as torch.optim.ASGD has it.

`eta` and `mu` in the memory are those of the next step. Weight decay is an L2 term of the gradient; `lambd` decays the
parameter by the step size.
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
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    g = g + weight_decay * x
    eta, mu = slots.get("eta", learning_rate), slots.get("mu", 1.0)
    x = (1.0 - lambd * eta) * x - eta * g
    average = slots.get("ax", 0.0)
    average = average + mu * (x - average) if mu != 1.0 else x
    eta = learning_rate / (1.0 + lambd * learning_rate * t) ** alpha
    return x, {"eta": np.asarray(eta), "mu": np.asarray(1.0 / max(1.0, t - t0)), "ax": average}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
