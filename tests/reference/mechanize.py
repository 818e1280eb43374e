"""Mechanic: Cutkosky, Defazio and Mehta, arXiv 2306.00144, Algorithm 1 with the bounded h of optax 0.2.8, over any
other twin.

`hyper` holds `base` (a twin's name) and Mechanic's own numbers; all other names belong to the base. Walks with optax's
`mechanize` to 7e-14 over 100 steps of float64 around SGD, AdamW and Lion.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from . import reference
from ._around import around
from ._walk import Array, History, Slots, Store, as_is, kept, total

DEFAULTS = {"base": "adamw", "mechanic_decay": 1e-2, "mechanic_eps": 1e-8, "s_init": 1e-6, "num_betas": 6}


class Tuner:
    """The numbers of the model."""

    def __init__(self, decay: float, eps: float, s_init: float, count: int) -> None:
        self.decay, self.eps, self.s_init = decay, eps, s_init
        self.betas = 1 - 0.1 ** np.arange(1, count + 1)
        self.r, self.m, self.v, self.s = *np.zeros((3, count)), np.full(count, s_init)

    def learn(self, gs: Sequence[Array], xs: Sequence[Array], starts: Sequence[Array]) -> float:
        """Moves all numbers by the gradients at xs; returns the scale that was."""
        scale = self.s.sum()
        g_norm, x_norm = (np.sqrt(total([a * a for a in arrays])) for arrays in (gs, xs))
        pull = self.decay * scale * g_norm / (x_norm + self.eps)
        deltas = [(x0 - x) / (scale + self.eps) for x0, x in zip(starts, xs, strict=True)]
        h = total([(g + pull * x) * d for g, x, d in zip(gs, xs, deltas, strict=True)])
        self.r = self.betas * self.r + np.clip(h, -self.m, self.m) * self.s
        self.m = np.maximum(self.betas * self.m, np.abs(h) + self.eps)
        self.v = self.betas**2 * self.v + h**2
        wealth = self.s_init / len(self.betas) * self.m + np.maximum(0.0, self.r)
        self.s = wealth / (np.sqrt(self.v) + self.eps)
        return scale

    def numbers(self, store: Store) -> dict[str, Array]:
        """Each number by name, as `store` leaves it, from which the next step goes on."""
        by_name = {}
        for name in "rmvs":
            numbers = [kept(store, ("model", f"mechanic_{name}_{i + 1}"), x) for i, x in enumerate(getattr(self, name))]
            setattr(self, name, np.array(numbers))
            by_name |= {f"mechanic_{name}_{i + 1}": x for i, x in enumerate(numbers)}
        return by_name


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    hyper = {**DEFAULTS, **hyper}
    base, *settings = (hyper.pop(k) for k in DEFAULTS)
    tuner, sign = Tuner(*settings), -1.0 if hyper.get("maximize", False) else 1.0
    xs, scales, model = [np.array(p, dtype=float) for p in params], [0.0], []
    starts = [kept(store, ("slot", "mechanic_x0"), x) for x in xs]

    def scaled(t: int, i: int, before: Array, after: Array, slots: Slots) -> tuple[Array, Slots]:
        if i == 0:
            gs = [sign * np.asarray(g, dtype=float) for g in grads[t - 1]]
            scales[0] = tuner.learn(gs, xs, starts)
            new = tuner.s.sum()
            model.append(tuner.numbers(store))
            scales[1:] = [new]
        delta = (starts[i] - before) / (scales[0] + tuner.eps) + (before - after)
        return starts[i] - scales[1] * delta, {"mechanic_x0": starts[i]}

    places = itertools.cycle(range(len(xs)))

    def seen(role: object, x: Array) -> Array:
        stored = store(role, x)
        if role == "param":
            xs[next(places)] = np.array(stored, dtype=float)
        return stored

    path, states = around(reference(base), scaled, params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=seen)
    for state, numbers in zip(states, model, strict=True):
        state["model"] = {**state["model"], **numbers}
    return path, states
