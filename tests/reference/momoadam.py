"""MoMo-Adam: Schaipp, Ohana, Eickenberg, Defazio and Gower, arXiv 2305.07583, algorithm 2, with the lower bound of
section 4, all leaves as one vector, as the authors' package has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, total, walk_with_losses
from .momo import length


def step(
    t: int, xs: list[Array], gs: list[Array], leaves: list[Slots], model: Slots, *, values: Sequence[float],
    learning_rate: float = 1e-2, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
    lower_bound: float = 0.0, adapt_lower_bound: bool = False, weight_decay: float = 0.0,
) -> tuple[list[Array], list[Slots], Slots]:  # fmt: skip
    pairs = list(zip(gs, leaves, strict=True))
    ms = [beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g for g, slots in pairs]
    vs = [beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2 for g, slots in pairs]
    ds = [m / (np.sqrt(v / (1.0 - beta2**t)) + eps) for m, v in zip(ms, vs, strict=True)]
    f = beta1 * model.get("barf", 0.0) + (1.0 - beta1) * values[t - 1]
    products = total([g * x for x, g in zip(xs, gs, strict=True)])
    c = beta1 * model.get("gamma", 0.0) + (1.0 - beta1) * products
    reach = total([m * x for x, m in zip(xs, ms, strict=True)])
    norm = total([m * d for m, d in zip(ms, ds, strict=True)])
    options = {"rate": learning_rate, "decay": weight_decay, "floor": lower_bound, "adapt": adapt_lower_bound}
    tau, lb = length(f, c, reach, norm, model.get("lb", lower_bound), rho=1.0 - beta1**t, **options)
    moved = [(x - tau * d) / (1.0 + learning_rate * weight_decay) for x, d in zip(xs, ds, strict=True)]
    slots = [{"exp_avg": m, "exp_avg_sq": v} for m, v in zip(ms, vs, strict=True)]
    return moved, slots, {"barf": f, "gamma": c, "lb": lb}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, values: Sequence[float], matrix_dtype: type = float,
    store: Store = as_is,
) -> History:  # fmt: skip
    """Parameters and state after each step, of which each has its loss in `values`; see the package's docstring."""
    del matrix_dtype
    return walk_with_losses(params, grads, step, hyper=hyper, values=values, store=store)
