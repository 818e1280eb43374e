"""D-Adapted SGD: Defazio and Mishchenko, arXiv 2301.07733, Algorithm 4, as their package dadaptation runs it.

Walks with dadaptation 3.2's DAdaptSGD to 3e-13 (d0 1e-2) without weight decay. With it the package's first norm is that
of the gradient alone: it adds the decay to a copy that it drops. The sums r and s are those of the package times that
norm, r twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._dadapt import grown
from ._walk import Array, History, Slots, Store, as_is, total, walk_together


def step(
    t: int, xs: list[Array], gs: list[Array], leaves: list[Slots], model: Slots, *, learning_rate: float = 1.0,
    momentum: float = 0.0, weight_decay: float = 0.0, d0: float = 1e-6, growth_rate: float = math.inf,
) -> tuple[list[Array], list[Slots], Slots]:  # fmt: skip
    gs = [g + weight_decay * x for x, g in zip(xs, gs, strict=True)]
    d, norm = model.get("d", d0), model.get("g0_norm", 0.0) or math.sqrt(total([g**2 for g in gs]))
    k = d * learning_rate
    old = [slots.get("s", np.zeros_like(x)) for x, slots in zip(xs, leaves, strict=True)]
    r = model.get("numerator_weighted", 0.0) + k * total([g * s for g, s in zip(gs, old, strict=True)])
    new = [{"p0": slots["p0"], "s": s + k * g} for g, s, slots in zip(gs, old, leaves, strict=True)]
    size = math.sqrt(total([slots["s"] ** 2 for slots in new]))
    scaled = [y["p0"] - y["s"] / (norm or 1.0) for y in new]
    moved = [momentum * x + (1.0 - momentum) * z for x, z in zip(xs, scaled, strict=True)]
    return moved, new, {"d": grown(d, 2.0 * r, size * norm, growth_rate), "numerator_weighted": r, "g0_norm": norm}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk_together(params, grads, step, hyper=hyper, store=store)
