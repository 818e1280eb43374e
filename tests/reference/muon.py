"""Muon: Jordan 2024 (kellerjordan.github.io/posts/muon), the algorithm and its Newton-Schulz iteration.

`adjust` "match_rms_adamw" is Liu et al., arXiv 2502.16982, eq. 4. Follows the code of torch.optim.Muon.

Differs from the post as torch's code does (torch's own documentation shows the post's form): the buffer is an
average, b = mu b + (1 - mu) g. The two differ in scale only, which the iteration removes, but the stored buffer
shows it. Matrices are leaves of exactly two dimensions, seen as [out, in]; every other leaf takes AdamW with
`adamw_weight_decay`, or without one this `weight_decay`; with `route_all`, so does everything. The iteration runs in
`matrix_dtype`: float64 here, bfloat16 in torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from . import adamw
from ._walk import Array, History, Slots, Store, as_is, walk


def newton_schulz(u: Array, coefficients: tuple[float, float, float], steps: int, eps: float, dtype: type) -> Array:
    """Push the singular values s of u towards 1 by a s + b s^3 + c s^5, on the side with the smaller Gram matrix."""
    a, b, c = coefficients
    tall = u.shape[0] > u.shape[1]
    y = (u.T if tall else u).astype(dtype)
    y = (y / max(math.sqrt(np.sum(y**2)), eps)).astype(dtype)
    for _ in range(steps):
        gram = y @ y.T
        y = (a * y + (b * gram + c * gram @ gram) @ y).astype(dtype)
    return (y.T if tall else y).astype(float)


def scale(shape: tuple[int, int], adjust: str) -> float:
    """The factor on the learning rate that makes steps of differently shaped matrices comparable."""
    rows, columns = shape
    factors = {"original": math.sqrt(max(1.0, rows / max(columns, 1))), "match_rms_adamw": 0.2 * math.sqrt(max(shape))}
    return factors[adjust]


def given(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def step(
    t: int,
    x: Array,
    g: Array,
    slots: Slots,
    *,
    matrix_dtype: type,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    ns_steps: int = 5,
    eps: float = 1e-7,
    adjust: str = "original",
    adamw_beta1: float = 0.9,
    adamw_beta2: float = 0.999,
    adamw_eps: float = 1e-8,
    adamw_learning_rate: float | None = None,
    adamw_weight_decay: float | None = None,
    route_all: bool = False,
) -> tuple[Array, Slots]:
    if route_all or x.ndim != 2:
        rate, decay = given(adamw_learning_rate, learning_rate), given(adamw_weight_decay, weight_decay)
        own = {"beta1": adamw_beta1, "beta2": adamw_beta2, "eps": adamw_eps}
        return adamw.step(t, x, g, slots, learning_rate=rate, weight_decay=decay, **own)
    b = momentum * slots.get("momentum_buffer", 0.0) + (1.0 - momentum) * g
    u = momentum * b + (1.0 - momentum) * g if nesterov else b
    o = scale(x.shape, adjust) * newton_schulz(u, ns_coefficients, ns_steps, eps, matrix_dtype)
    return x - learning_rate * (weight_decay * x + o), {"momentum_buffer": b}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, partial(step, matrix_dtype=matrix_dtype), hyper=hyper, store=store)
