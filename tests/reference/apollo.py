"""APOLLO: Zhu et al., arXiv 2412.05270, Algorithm 1, as its authors' `apollo_torch` 1.0.3 has it, where the limit on
growing steps is of what the bias corrections have not touched.

Differs from that code: the numbers of P are evenly spread and made by a hash of 32 bits, lowbias32 of
github.com/skeeto/hash-prospector, from the number of P and their place; the limit begins anew after a step of length 0;
weight decay acts on what has not moved yet; and which matrices are projected is as in GaLore's twin. Walks with that
code to 2e-14 over 100 steps of float64 where that is given this P.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk
from .galore import lines_of, moments, size

TINY, GROWTH = 1e-8, 1.01


def hashed(x: int) -> int:
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16


def chosen(rows: int, rank: int, number: int) -> Array:
    """Numbers of variance 1 / rank: 23 bits of a hash as a signed number, in the middle between it and the next."""
    key = hashed(number)
    bits = [hashed((0x1E3779B1 * place + key) % 2**32) >> 9 for place in range(rows * rank)]
    signed = [b - 2**23 if b >= 2**22 else b for b in bits]
    return np.reshape([(b + 0.5) / 2**22 for b in signed], (rows, rank)) * math.sqrt(3 / rank)


def length(a: Array, scale_type: str) -> Array:
    return np.linalg.norm(a, axis=1, keepdims=True) if scale_type == "channel" else np.linalg.norm(a)


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-6, weight_decay: float = 0.0, rank: int = 256, update_proj_gap: int = 200, scale: float = 1.0,
    scale_type: str = "channel", proj_type: str = "std", layout: str | None = None,
) -> tuple[Array, Slots]:  # fmt: skip
    betas, lines = (beta1, beta2), lines_of(g, rank, proj_type, layout)
    x_left = x - learning_rate * weight_decay * x
    if lines is None:
        m, v = moments(slots, g, betas)
        return x_left - size(t, learning_rate, betas) * m / (np.sqrt(v) + eps), {"exp_avg": m, "exp_avg_sq": v}
    rows, back = lines
    r = rows @ chosen(rows.shape[1], rank, (t - 1) // update_proj_gap)
    m, v = moments(slots, r, betas)
    d = m / (np.sqrt(v) + eps)
    s = rows * length(d, scale_type) / (length(r, scale_type) + TINY)
    before, after = slots.get("update_norm", 0.0), np.linalg.norm(s)
    over = max(after / (before + TINY), GROWTH) / GROWTH if before > 0 else 1.0
    new = {"exp_avg": m, "exp_avg_sq": v, "update_norm": after / over}
    return x_left - size(t, learning_rate, betas) * math.sqrt(scale) * back(s / over), new


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, step, hyper=hyper, store=store)
