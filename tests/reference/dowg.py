"""DoWG: Khaled, Mishchenko and Jin, arXiv 2305.16284, Algorithm 1, with all leaves as one vector.

Its authors' code adds eps to the root, and begins with it as the squared distance, which is None here and in optax.
Weight decay is L2, as in optax.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, total, walk_together


def step(
    t: int, xs: list[Array], gs: list[Array], leaves: list[Slots], model: Slots, *, learning_rate: float = 1.0,
    init_estim_sq_dist: float | None = 1e-4, eps: float = 1e-4, weight_decay: float = 0.0,
) -> tuple[list[Array], list[Slots], Slots]:  # fmt: skip
    gs = [g + weight_decay * x for x, g in zip(xs, gs, strict=True)]
    way = total([(x - slots["p0"]) ** 2 for x, slots in zip(xs, leaves, strict=True)])
    r2 = max(model.get("estim_sq_dist", eps if init_estim_sq_dist is None else init_estim_sq_dist), way)
    v = model.get("weighted_sq_norm_grads", 0.0) + r2 * total([g**2 for g in gs])
    eta = r2 / (np.sqrt(v) + eps)
    moved = [x - learning_rate * eta * g for x, g in zip(xs, gs, strict=True)]
    return moved, leaves, {"estim_sq_dist": r2, "weighted_sq_norm_grads": v}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk_together(params, grads, step, hyper=hyper, store=store)
