"""SGD with Polyak's step: Loizou, Vaswani, Laradji and Lacoste-Julien, arXiv 2002.10542, SPS_max, and the positive part
of the gap of Garrigos, Gower and Schaipp, arXiv 2307.14528, with all leaves as one vector.

As optax says it in its docstring: a factor, the learning rate, multiplies the bounded step. Weight decay is decoupled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, total, walk_with_losses


def step(
    t: int, xs: list[Array], gs: list[Array], leaves: list[Slots], model: Slots, *, values: Sequence[float],
    learning_rate: float = 1.0, max_step_size: float = 1.0, f_min: float = 0.0, eps: float = 0.0, variant: str = "sps",
    weight_decay: float = 0.0,
) -> tuple[list[Array], list[Slots], Slots]:  # fmt: skip
    gap = values[t - 1] - f_min
    gap = max(gap, 0.0) if variant == "sps+" else gap
    norm = total([g**2 for g in gs]) + eps
    gamma = min(gap / norm, max_step_size) if norm > np.finfo(float).eps else 0.0
    pairs = zip(xs, gs, strict=True)
    return [x - learning_rate * (gamma * g + weight_decay * x) for x, g in pairs], leaves, model


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, values: Sequence[float], matrix_dtype: type = float,
    store: Store = as_is,
) -> History:  # fmt: skip
    """Parameters and state after each step, of which each has its loss in `values`; see the package's docstring."""
    del matrix_dtype
    return walk_with_losses(params, grads, step, hyper=hyper, values=values, store=store)
