"""LARS: You, Gitman and Ginsburg, arXiv 1708.03888, Algorithm 1, one layer per leaf; phi is the identity.

The algorithm gives no value where a norm is 0; every code takes a ratio of 1 there. Nesterov's look-ahead is optax's,
and so is eps; `adapt_vectors` is what MLPerf's and pytorch_optimizer's codes do. Walks with timm 1.0's
Lars (constant learning rate) to 1e-13.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1.0, momentum: float = 0.9,
    nesterov: bool = False, trust_coefficient: float = 1e-3, eps: float = 0.0, adapt_vectors: bool = True,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    norm_x, norm_g = np.sqrt(np.sum(x**2)), np.sqrt(np.sum(g**2))
    divisor = norm_g + weight_decay * norm_x + eps
    plain = norm_x == 0.0 or divisor == 0.0 or not (adapt_vectors or x.ndim > 1)
    rate = learning_rate * (1.0 if plain else trust_coefficient * norm_x / divisor)
    d = rate * (g + weight_decay * x)
    if not momentum:
        return x - d, {}
    v = momentum * slots.get("momentum_buffer", 0.0) + d
    return x - (momentum * v + d if nesterov else v), {"momentum_buffer": v}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
