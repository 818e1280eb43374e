"""MoMo: Schaipp, Ohana, Eickenberg, Defazio and Gower, arXiv 2305.07583, algorithm 1, with the lower bound of section
4, all leaves as one vector.

Follows the authors' package: without bias correction the first means are the first loss and gradient. Decay is that of
the proximal step, which divides all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, total, walk_with_losses


def mean(old: object, new: object, beta: float, t: int) -> object:
    """The decaying mean, which is the first value at first."""
    return new if t == 1 else beta * old + (1.0 - beta) * new


def length(
    f: float, c: float, reach: float, norm: float, lb: float, *,
    rate: float, decay: float, floor: float, adapt: bool, rho: float,
) -> tuple[float, float]:  # fmt: skip
    """How far to go and the new lower bound, from the means of losses `f` and of products of gradient and parameter
    `c`, the product of direction and parameters, and the squared norm of the direction.
    """
    grown = 1.0 + rate * decay
    cap = grown * (f - c) + reach
    if adapt and cap < grown * rho * lb:
        lb = max(cap / (2.0 * grown * rho), floor)
    tau = min(rate / rho, max(cap - grown * rho * lb, 0.0) / norm) if norm > np.finfo(float).eps else 0.0
    if adapt:
        lb = max((f + reach - c - 0.5 * tau * norm) / rho, floor)
    return tau, lb


def step(
    t: int, xs: list[Array], gs: list[Array], leaves: list[Slots], model: Slots, *, values: Sequence[float],
    learning_rate: float = 1.0, momentum: float = 0.9, lower_bound: float = 0.0, adapt_lower_bound: bool = False,
    weight_decay: float = 0.0,
) -> tuple[list[Array], list[Slots], Slots]:  # fmt: skip
    ds = [mean(slots.get("exp_avg"), g, momentum, t) for g, slots in zip(gs, leaves, strict=True)]
    f = mean(model.get("barf"), values[t - 1], momentum, t)
    c = mean(model.get("gamma"), total([g * x for x, g in zip(xs, gs, strict=True)]), momentum, t)
    reach, norm = total([d * x for x, d in zip(xs, ds, strict=True)]), total([d**2 for d in ds])
    options = {"rate": learning_rate, "decay": weight_decay, "floor": lower_bound, "adapt": adapt_lower_bound}
    tau, lb = length(f, c, reach, norm, model.get("lb", lower_bound), rho=1.0, **options)
    moved = [(x - tau * d) / (1.0 + learning_rate * weight_decay) for x, d in zip(xs, ds, strict=True)]
    return moved, [{"exp_avg": d} for d in ds], {"barf": f, "gamma": c, "lb": lb}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, values: Sequence[float], matrix_dtype: type = float,
    store: Store = as_is,
) -> History:  # fmt: skip
    """Parameters and state after each step, of which each has its loss in `values`; see the package's docstring."""
    del matrix_dtype
    return walk_with_losses(params, grads, step, hyper=hyper, values=values, store=store)
