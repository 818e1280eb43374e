"""Dion: Ahn et al., arXiv 2504.05295, as `dion_reference.py` of the authors' library dion 0.1.0 has it, with
qr_method="qr": Q is of the shorter side, the rank is rounded up, weight decay is decoupled and a Q of zeros is never
made of a B of zeros.

Differs from that code: the first Q is evenly spread, by APOLLO's hash; the diagonal of the decomposition is not
negative; a column of R below 1e-5 of the longest is 0; kernels are matrices of their outputs by all else, and stacks of
matrices take AdamW, as vectors do. Walks with that code to 9e-15 over 100 steps of float64, and to 4e-14 in its memory,
where it is given this Q and its casts to float32 are left out, at ranks from a third to all, with decay, another
momentum and three gradients of zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import muon
from ._walk import Array, History, Slots, Store, as_is, walk
from .apollo import chosen


def decomposed(a: Array) -> Array:
    """The Q of a QR decomposition whose R has a diagonal that is not negative."""
    q, r = np.linalg.qr(a)
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def normalized(r: Array, eps: float) -> Array:
    """The columns of R divided by their lengths."""
    lengths = np.linalg.norm(r, axis=0)
    return np.where(lengths > 1e-5 * lengths.max(), r / np.where(lengths > 0, lengths + eps, 1.0), 0.0)


def on_matrix(b: Array, q: Array | None, mu: float, eps: float, fraction: float) -> tuple[Array, Array, Array]:
    """Of a matrix B that is not wider than long: the step of length 1, what is left of B, and the new Q."""
    if q is None:
        rank = math.ceil(fraction * min(b.shape))
        q = chosen(b.shape[1] * rank, 1, 0).reshape(b.shape[1], rank)
    if not np.any(b):
        return b, b, q
    p = decomposed(b @ q)
    r = b.T @ p
    q = normalized(r, eps)
    return p @ q.T, b - (1 - mu) * p @ r.T, q


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 0.01, momentum: float = 0.95,
    rank_fraction: float = 1.0, eps: float = 1e-8, weight_decay: float = 0.01, adamw_learning_rate: float | None = None,
    adamw_ratio: float | None = None, adamw_beta2: float = 0.95, route_all: bool = False, layout: str | None = None,
    batch_axes: int = 0, **adamw_options: float,
) -> tuple[Array, Slots]:  # fmt: skip
    stack = batch_axes > 0 and x.ndim >= batch_axes + 2
    if route_all or stack or not x.size or not muon.is_matrix(x.shape, layout):
        rate = muon.value_or(adamw_learning_rate, muon.value_or(adamw_ratio, 1.0) * learning_rate)
        return muon.on_others(t, x, g, slots, rate, weight_decay, {"adamw_beta2": adamw_beta2, **adamw_options})
    rows = muon.rows_of_outputs(slots.get("momentum_buffer", 0.0) + g, layout)
    outputs, inputs = rows.shape
    wide = outputs < inputs
    made = on_matrix(rows.T if wide else rows, slots.get("directions"), momentum, eps, rank_fraction)
    u, b = (muon.back(a.T if wide else a, x.shape, layout) for a in made[:2])
    u = math.sqrt(outputs / inputs) * u
    return x - learning_rate * (weight_decay * x + u), {"momentum_buffer": b, "directions": made[2]}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, step, hyper=hyper, store=store)
