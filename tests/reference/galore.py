"""GaLore: Zhao et al., arXiv 2403.03507, Algorithm 2, as its authors' `galore_torch` 1.0 has it: moments stay as they
are when the projection changes, and eps is added to the uncorrected root.

Differs from that code: weight decay acts on what has not moved yet; matrices whose shorter side is not above the rank
are stepped by AdamW; kernels are matrices of their outputs by all else; and the sign of a singular vector is that by
which its sum is not negative. Walks with that code to 2e-14 over 100 steps of float64 where that has this sign and no
cast to float32; by LAPACK's signs the walks part for good when the projection changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from . import muon
from ._walk import Array, History, Slots, Store, as_is, walk


def is_tall(shape: tuple[int, ...], proj_type: str) -> bool:
    """Of a matrix with a row for each output: whether its columns, the inputs, are what is projected."""
    outputs, inputs = shape
    return outputs >= inputs if proj_type == "std" or outputs == inputs else outputs < inputs


def lines_of(a: Array, rank: int, proj_type: str, layout: str | None) -> tuple[Array, Callable[[Array], Array]] | None:
    """The matrix with a row for each place along the side that is kept, and the way back; None of what is none."""
    if a.ndim < 2:
        return None
    rows = muon.rows_of_outputs(a, layout)
    if not 0 < rank < min(rows.shape):
        return None
    tall = is_tall(rows.shape, proj_type)
    return (rows if tall else rows.T), lambda b: muon.back(b if tall else b.T, a.shape, layout)


def moments(slots: Slots, r: Array, betas: tuple[float, float]) -> tuple[Array, Array]:
    """Both moments after this gradient."""
    m = betas[0] * slots.get("exp_avg", 0.0) + (1 - betas[0]) * r
    return m, betas[1] * slots.get("exp_avg_sq", 0.0) + (1 - betas[1]) * r**2


def size(t: int, rate: float, betas: tuple[float, float]) -> float:
    """The rate with the corrections of both moments."""
    return rate * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)


def right_vectors(g: Array, rank: int) -> Array:
    """The first right singular vectors, with sums that are not negative."""
    q = np.linalg.svd(g)[2][:rank].T
    return q * np.where(q.sum(axis=0) < 0, -1.0, 1.0)


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-6, weight_decay: float = 0.0, rank: int = 128, update_proj_gap: int = 200, scale: float = 0.25,
    proj_type: str = "std", layout: str | None = None,
) -> tuple[Array, Slots]:  # fmt: skip
    betas, lines = (beta1, beta2), lines_of(g, rank, proj_type, layout)
    rows, back = lines or (g, lambda b: b)
    new: Slots = {}
    if lines is not None:
        due = (t - 1) % update_proj_gap == 0
        new["projector"] = right_vectors(rows, rank) if due else slots["projector"]
        rows = rows @ new["projector"]
    m, v = moments(slots, rows, betas)
    u = size(t, learning_rate, betas) * m / (np.sqrt(v) + eps)
    u = u if lines is None else scale * back(u @ new["projector"].T)
    return x - learning_rate * weight_decay * x - u, {"exp_avg": m, "exp_avg_sq": v} | new


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, step, hyper=hyper, store=store)
