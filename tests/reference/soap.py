"""SOAP: Vyas et al., arXiv 2409.11321, Algorithm 3, as its authors' `soap.py` has it: the first step makes the bases
and moves nothing, decay acts on what has moved, and bases are made orthonormal by QR in the order of their eigenvalues.

Differs from that file in what a basis may be chosen to be: signs by which the sum of each column is not negative,
columns that keep their places, and for the longer side the completion of the first gradient's singular vectors by QR,
where that file has any basis of what is left. Differs from the paper: leaves of more than two axes are matrices of
their outputs by all else. Walks with that file to 7e-15 where every gradient's Gram matrices determine the bases
and its casts to float32 are left out, with them to 1e-6; and with pytorch_optimizer 4.1's, which has such casts in the
QR decomposition alone, to 1.5e-7.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import muon
from ._walk import Array, History, Slots, Store, as_is, walk

SIDES = ("left", "right")


def upright(q: Array) -> Array:
    return q * np.where(q.sum(axis=0) < 0, -1.0, 1.0)


def first_bases(g: Array) -> list[Array]:
    """The eigenvectors of g g^T and of g^T g."""
    rows, columns = g.shape
    bases = []
    for m, n, x in ((rows, columns, g), (columns, rows, g.T)):
        values, small = np.linalg.eigh(x @ x.T if m <= n else x.T @ x)
        small = small[:, np.argsort(-values, kind="stable")]
        bases.append(upright(small if m <= n else np.linalg.qr(x @ small, mode="complete")[0]))
    return bases


def next_basis(q: Array, gram: Array) -> Array:
    """One power iteration, by QR with the longest column first."""
    moved = gram @ q
    order = np.argsort(-np.sum(q * moved, axis=0), kind="stable")
    new = np.empty(q.shape)
    new[:, order] = np.linalg.qr(moved[:, order])[0]
    return upright(new)


def turned(a: Array, bases: list[Array | None], back: bool = False) -> Array:
    """A matrix in the coordinates of those bases that there are, or back from them."""
    left, right = bases
    a = a if left is None else (left if back else left.T) @ a
    return a if right is None else a @ (right.T if back else right)


def on_matrix(
    t: int, x: Array, g: Array, slots: Slots, present: list[int], rates: tuple, betas: tuple, eps: float, frequency: int
) -> tuple[Array, Slots]:
    """A step of a matrix whose sides `present` have bases; of a vector, a matrix of one row, none has."""
    (rate, decay), (beta1, beta2, beta) = rates, betas
    bases, new = [slots.get(f"basis_{side}") for side in SIDES], {}
    m, v = slots.get("exp_avg", np.zeros(x.shape)), slots.get("exp_avg_sq", np.zeros(x.shape))
    if t > 1:
        r = turned(g, bases)
        m, v = beta1 * m + (1 - beta1) * r, beta2 * v + (1 - beta2) * r**2
        size = rate * math.sqrt(1 - beta2 ** (t - 1)) / (1 - beta1 ** (t - 1))
        x = x - size * turned(m / (np.sqrt(v) + eps), bases, back=True)
        x = x - rate * decay * x
    later, due = list(bases), (t - 1) % frequency == 0
    for k in present:
        side, rows = SIDES[k], g if k == 0 else g.T
        new[f"gram_{side}"] = gram = beta * slots.get(f"gram_{side}", 0.0) + (1 - beta) * rows @ rows.T
        later[k] = new[f"basis_{side}"] = (
            first_bases(g)[k] if t == 1 else next_basis(bases[k], gram) if due else bases[k]
        )
    if due and t > 1:
        m = turned(turned(m, bases, back=True), later)
    return x, {"exp_avg": m, "exp_avg_sq": v} | new


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 3e-3, beta1: float = 0.95, beta2: float = 0.95,
    shampoo_beta: float | None = None, eps: float = 1e-8, weight_decay: float = 0.01, precondition_frequency: int = 10,
    max_precond_dim: int = 10000, layout: str | None = None,
) -> tuple[Array, Slots]:  # fmt: skip
    kernel, shape = x.ndim > 2, x.shape
    flat = (lambda a: muon.rows_of_outputs(a, layout)) if kernel else (lambda a: a if a.ndim == 2 else a.reshape(1, -1))
    like = [k for k in ("exp_avg", "exp_avg_sq") if k in slots]
    held = slots | {k: flat(slots[k]) for k in like}
    fits = [k for k, n in enumerate(flat(x).shape) if n <= max_precond_dim and x.ndim > 1 and x.size]
    betas = beta1, beta2, beta2 if shampoo_beta is None else shampoo_beta
    rates = learning_rate, weight_decay
    x, new = on_matrix(t, flat(x), flat(g), held, fits, rates, betas, eps, precondition_frequency)
    back = (lambda a: muon.back(a, shape, layout)) if kernel else (lambda a: a.reshape(shape))
    return back(x), new | {k: back(new[k]) for k in ("exp_avg", "exp_avg_sq")}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, step, hyper=hyper, store=store)
