"""Prodigy: Mishchenko and Defazio, arXiv 2306.06101, the Adam version, as the authors' package prodigyopt runs it.

Follows the package where it is more definite than the paper: r and s are scaled by 1 / (d0 (1 - beta3)), which
their ratio forgets; eps is multiplied by the new d, the step and the decay by the old one (inside dlr); d may jump
from d0 at once but then grows by at most `growth_rate` a step; a step in which nothing was ever learned (learning
rate 0, or no gradient so far) changes nothing and is not counted. Decay is decoupled and multiplied by dlr. One d
serves all leaves, so the loop is written here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, kept


def leaf_sums(x: Array, g: Array, slots: Slots, d: float, weight: float, betas: tuple) -> tuple[Slots, float]:
    """The slots of one leaf with its gradient learned, and its part in the sum r; `weight` is that of g in s."""
    beta1, beta2, beta3 = betas
    m = beta1 * slots["exp_avg"] + (1.0 - beta1) * d * g
    v = beta2 * slots["exp_avg_sq"] + (1.0 - beta2) * d**2 * g**2
    s = beta3 * slots["s"] + weight * g
    return {"p0": slots["p0"], "s": s, "exp_avg": m, "exp_avg_sq": v}, np.sum(g * (slots["p0"] - x))


def estimate(model: Slots, d_hat: float, d0: float, growth_rate: float) -> tuple[float, float]:
    """The new d and d_max."""
    d = max(model["d"], d_hat) if model["d"] == d0 else model["d"]
    d_max = max(model["d_max"], d_hat)
    return min(d_max, d * growth_rate), d_max


def descend(x: Array, slots: Slots, dlr: float, d_eps: float, weight_decay: float) -> Array:
    """One leaf after the step of AdamW with the rate dlr."""
    return x - weight_decay * dlr * x - dlr * slots["exp_avg"] / (np.sqrt(slots["exp_avg_sq"]) + d_eps)


def step(
    t: int,
    xs: list[Array],
    gs: list[Array],
    leaves: list[Slots],
    model: Slots,
    *,
    learning_rate: float = 1.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta3: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    d0: float = 1e-6,
    d_coef: float = 1.0,
    growth_rate: float = math.inf,
    use_bias_correction: bool = False,
    safeguard_warmup: bool = False,
) -> tuple[list[Array], list[Slots], Slots] | None:
    """All leaves after one step; None when the step does not count."""
    d, betas = model["d"], (beta1, beta2, math.sqrt(beta2) if beta3 is None else beta3)
    dlr = d * learning_rate * (math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t) if use_bias_correction else 1.0)
    weight = (d / d0) * (d if safeguard_warmup else dlr)
    leaves, sums = zip(*map(partial(leaf_sums, d=d, weight=weight, betas=betas), xs, gs, leaves), strict=True)
    r = betas[2] * model["d_numerator"] + (d / d0) * dlr * sum(sums)
    s_norm = sum(np.sum(np.abs(slots["s"])) for slots in leaves)
    if learning_rate == 0.0 or s_norm == 0.0:
        return None
    d, d_max = estimate(model, d_coef * r / s_norm, d0, growth_rate)
    xs = [descend(x, slots, dlr, d * eps, weight_decay) for x, slots in zip(xs, leaves, strict=True)]
    return xs, list(leaves), {"d": d, "d_max": d_max, "d_numerator": r}


def start(x: Array, store: Store) -> Slots:
    """The slots before the first step: nothing seen, and the point from which the distance is measured."""
    return {"p0": kept(store, ("slot", "p0"), x), **{name: np.zeros_like(x) for name in ("s", "exp_avg", "exp_avg_sq")}}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    hyper = dict(hyper)
    sign = -1.0 if hyper.pop("maximize", False) else 1.0
    d0 = np.array(hyper.get("d0", 1e-6), dtype=float)
    xs = [np.array(p, dtype=float) for p in params]
    leaves = [start(x, store) for x in xs]
    model: Slots = {"d": d0, "d_max": d0, "d_numerator": np.zeros(())}
    params_history, state_history, counted = [], [], 0
    with np.errstate(all="ignore"):
        for gs in grads:
            gs = [sign * np.asarray(g, dtype=float) for g in gs]
            if after := step(counted + 1, xs, gs, leaves, model, **hyper):
                xs, leaves, model = after
                counted += 1
            xs = [kept(store, "param", x) for x in xs]
            leaves = [{k: kept(store, ("slot", k), v) for k, v in slots.items()} for slots in leaves]
            model = {k: kept(store, ("model", k), v) for k, v in model.items()}
            params_history.append(xs)
            state_history.append({"leaves": leaves, "model": model})
    return params_history, state_history
