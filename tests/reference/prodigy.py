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

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, kept


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
    d, d_max = model.get("d", d0), model.get("d_max", d0)
    beta3 = math.sqrt(beta2) if beta3 is None else beta3
    correction = math.sqrt(1.0 - beta2**t) / (1.0 - beta1**t) if use_bias_correction else 1.0
    dlr = d * learning_rate * correction

    r = beta3 * model.get("d_numerator", 0.0)
    leaves_now, total = [], 0.0
    for x, g, slots in zip(xs, gs, leaves, strict=True):
        r = r + (d / d0) * dlr * np.sum(g * (slots["p0"] - x))
        m = beta1 * slots["exp_avg"] + (1.0 - beta1) * d * g
        v = beta2 * slots["exp_avg_sq"] + (1.0 - beta2) * d**2 * g**2
        s = beta3 * slots["s"] + (d / d0) * (d if safeguard_warmup else dlr) * g
        total = total + np.sum(np.abs(s))
        leaves_now.append({"p0": slots["p0"], "s": s, "exp_avg": m, "exp_avg_sq": v})
    if learning_rate == 0.0 or total == 0.0:
        return None

    d_hat = d_coef * r / total
    d = max(d, d_hat) if d == d0 else d
    d_max = max(d_max, d_hat)
    d = min(d_max, d * growth_rate)
    xs = [
        x - weight_decay * dlr * x - dlr * slots["exp_avg"] / (np.sqrt(slots["exp_avg_sq"]) + d * eps)
        for x, slots in zip(xs, leaves_now, strict=True)
    ]
    return xs, leaves_now, {"d": d, "d_max": d_max, "d_numerator": r}


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
