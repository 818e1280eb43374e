"""DoG: Ivgi, Hinder and Carmon, arXiv 2302.12022, section 2, with all leaves as one vector, as the package dog has it.

The first distance is the package's `reps_rel` times 1 + |x0| ("heuristic"), a number ("distance", optax's), or there is
none, and a first learning rate in its place ("learning_rate", the package's `init_eta`). Weight decay is L2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, total, walk_together


def step(
    t: int, xs: list[Array], gs: list[Array], leaves: list[Slots], model: Slots, *, learning_rate: float = 1.0,
    init_step_type: str = "heuristic", init_step_value: float = 1e-6, eps: float = 1e-8, weight_decay: float = 0.0,
) -> tuple[list[Array], list[Slots], Slots]:  # fmt: skip
    gs = [g + weight_decay * x for x, g in zip(xs, gs, strict=True)]
    starts = [slots["p0"] for slots in leaves]
    size = np.sqrt(total([x0**2 for x0 in starts]))
    first = {"heuristic": init_step_value * (1.0 + size), "distance": init_step_value, "learning_rate": 0.0}
    way = np.sqrt(total([(x - x0) ** 2 for x, x0 in zip(xs, starts, strict=True)]))
    r = max(model.get("max_dist", first[init_step_type]), way)
    big_g = model.get("sum_sq_norm_grads", 0.0) + total([g**2 for g in gs])
    eta = init_step_value if r == 0.0 else r / np.sqrt(big_g + eps)
    moved = [x - learning_rate * eta * g for x, g in zip(xs, gs, strict=True)]
    return moved, leaves, {"max_dist": r, "sum_sq_norm_grads": big_g}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk_together(params, grads, step, hyper=hyper, store=store)
