"""Scion: Pethick et al., arXiv 2502.07529, Algorithm 2, with the norms of the authors' `scion.py`.

Differs from the paper: `momentum` is the part of the average that is kept, and a kernel's scale is that of its matrix.
`weight_decay=1` is the constrained form, 0 the unconstrained one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from . import muon
from ._walk import Array, History, Slots, Store, as_is, walk


def direction(b: Array, norm: str, ns: tuple, layout: str | None, batch: int, dtype: type) -> Array:
    """The step of length 1 in this norm; that of a vector is its root mean square."""
    if b.size == 0:
        return b
    if b.ndim < 2 and norm == "spectral":
        return b / max(math.sqrt(np.mean(b**2)), ns[-1] / math.sqrt(b.size))
    u = np.zeros(b.shape)
    for place in np.ndindex(b.shape[:batch]):
        rows = muon.rows_of_outputs(b[place], layout) if b.ndim > 1 else b.reshape(-1, 1)
        outputs, inputs = (max(1, n) for n in rows.shape)
        made = np.sign(rows) / inputs
        if norm == "spectral":
            made = math.sqrt(outputs / inputs) * muon.newton_schulz(rows, *ns, dtype)
        u[place] = muon.back(made, b[place].shape, layout) if b.ndim > 1 else made.reshape(b.shape)
    return u


def step(
    t: int,
    x: Array,
    g: Array,
    slots: Slots,
    *,
    matrix_dtype: type,
    learning_rate: float = 1e-3,
    weight_decay: float = 1.0,
    momentum: float = 0.9,
    radius: float = 1.0,
    norm: str = "spectral",
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    ns_steps: int = 5,
    ns_schedule: str = "constant",
    eps: float = 1e-7,
    layout: str | None = None,
    batch_axes: int = 0,
) -> tuple[Array, Slots]:
    b = momentum * slots.get("momentum_buffer", 0.0) + (1.0 - momentum) * g
    batch = batch_axes * (x.ndim >= batch_axes + 2)
    ns = ns_schedule, ns_coefficients, ns_steps, eps
    u = direction(b, norm, ns, layout, batch, matrix_dtype)
    return x - learning_rate * (weight_decay * x + radius * u), {"momentum_buffer": b} if momentum else {}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, partial(step, matrix_dtype=matrix_dtype), hyper=hyper, store=store)
