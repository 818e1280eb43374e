"""AdamP: Heo et al., arXiv 2006.08217, Algorithm 2, and their `adamp.py` for what the paper leaves open.

The order of the two views, delta divided by the root of a view's size, and the ratio of decay are those of that code.
Outputs are along the first axis, or, where inputs come first, the last. Walks with timm 1.0.31's to 4e-15,
with pytorch_optimizer 4.1's, whose eps is beside the uncorrected root, to 3e-5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def projected(u: Array, x: Array, g: Array, delta: float, wd_ratio: float, eps: float) -> tuple[Array, float]:
    """The step, of whose outputs one is a row, and what is left of the decay."""
    for rows in (x.reshape(len(x), -1), x.reshape(1, -1)):
        u_rows, g_rows = u.reshape(rows.shape), g.reshape(rows.shape)
        norm, g_norm = (np.sqrt(np.sum(a**2, axis=1, keepdims=True)) for a in (rows, g_rows))
        dots = np.sum(rows * g_rows, axis=1, keepdims=True)
        cosine = np.abs(dots) / (np.maximum(norm, eps) * np.maximum(g_norm, eps))
        if np.all(cosine < delta / np.sqrt(rows.shape[1])):
            n = rows / (norm + eps)
            return (u_rows - n * np.sum(n * u_rows, axis=1, keepdims=True)).reshape(x.shape), wd_ratio
    return u, 1.0


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-8, delta: float = 0.1, wd_ratio: float = 0.1, nesterov: bool = False, layout: str | None = None,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    m = beta1 * slots.get("exp_avg", 0.0) + (1.0 - beta1) * g
    v = beta2 * slots.get("exp_avg_sq", 0.0) + (1.0 - beta2) * g**2
    m_hat = (beta1 * m + (1.0 - beta1) * g if nesterov else m) / (1.0 - beta1**t)
    u, left = m_hat / (np.sqrt(v / (1.0 - beta2**t)) + eps), 1.0
    if x.ndim > 1 and x.size:
        place = -1 if layout == "inputs_first" else 0
        u, left = projected(*(np.moveaxis(a, place, 0) for a in (u, x, g)), delta, wd_ratio, eps)
        u = np.moveaxis(u, 0, place)
    return x - learning_rate * (u + weight_decay * left * x), {"exp_avg": m, "exp_avg_sq": v}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
