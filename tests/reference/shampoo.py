"""Shampoo: Gupta et al., arXiv 1802.09568, Algorithm 1, with the grafting of Anil et al., arXiv 2002.09018, as Meta's
distributed_shampoo (github.com/facebookresearch/optimizers, f606606) arranges them: all means are corrected, gradients
are averaged before they are multiplied, the norm of what is grafted has 1e-16 added, and decay is decoupled.

Differs from that code in that eps is times the largest eigenvalue, as in google-research's, that vectors have no Gram
matrix, that a side which is too long has none and the other's power is doubled, where it has blocks, and that powers
are made at `start_preconditioning_step` and every so many steps from there, not at multiples. It merges short axes, so
that a small matrix is one vector, unless `target_parameter_dimensionality` is 2. Walks with it to 1e-14 in parameters
over 100 steps, and in m, L and L's root at the last, by each of its five graftings (none, SGD, RMSprop, Adam, AdaGrad
with a beta2 of 1), where eps is 1e-14 and default dtype and rates are such that its scalars in float32 are exact; else
to 4e-7, or to 1.5e-5 without grafting and with an exponent of 1/2.
Walks with pytorch_optimizer 4.1's ScalableShampoo to 2e-13 by RMSprop without momentum, which that has after the roots
and here is before them, with `use_svd`, without Nesterov and merged axes, and with its Shampoo to 3e-14 (a sum from
the first step on, no grafting), where eps is 1e-12 in both: theirs is added once, to the first Gram matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import muon
from ._walk import Array, History, Slots, Store, as_is, walk


def mean(old: Array, new: Array, beta: float, t: int) -> Array:
    """Of numbers with weights beta^0, beta^1 ...; of all alike, where beta is 1."""
    return beta * old + (1 - beta) * new if beta < 1 else ((t - 1) * old + new) / t


def whole(x: Array, beta: float, t: int) -> Array:
    """The sum that the weights make, by what they sum to; with a beta of 1 the sum itself."""
    return x / (1 - beta**t) if beta < 1 else t * x


def power(gram: Array, eps: float, exponent: float) -> Array:
    """A positive semidefinite matrix, damped, to a power: by its singular values, which are its eigenvalues."""
    u, s, _ = np.linalg.svd(gram)
    return (u * (s + eps * max(s[0], 1e-30)) ** exponent) @ u.T


def direction(m: Array, v: Array | None, grafting: str, beta: float, eps: float, t: int) -> Array:
    """The step of the method whose length steps have."""
    if v is None:
        return m
    return m / (np.sqrt(v if grafting == "rmsprop" and beta < 1 else whole(v, beta, t)) + eps)


def multiplied(
    m: Array, g: Array, slots: Slots, t: int, longest: int, beta: float, eps: float, exponent: float, due: bool
) -> tuple[Array | None, Slots]:
    """A matrix between the powers of both sides, or None if neither has one, and what is kept of them."""
    new, fits = Slots(), [n <= longest for n in m.shape]
    for side, there, a in (("left", fits[0], g), ("right", fits[1], g.T)):
        if not there:
            continue
        gram = mean(slots.get(f"gram_{side}", 0.0), a @ a.T, beta, t)
        root = slots.get(f"root_{side}", np.zeros(gram.shape))
        root = power(whole(gram, beta, t), eps, exponent * 2 / sum(fits)) if due else root
        new |= {f"gram_{side}": gram, f"root_{side}": root}
        m = root @ m if side == "left" else m @ root
    return m if any(fits) else None, new


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999,
    eps: float = 1e-6, weight_decay: float = 0.0, precondition_frequency: int = 10,
    start_preconditioning_step: int = 10, inverse_exponent: float = 0.25, grafting: str = "adam",
    grafting_beta2: float = 0.999, grafting_eps: float = 1e-8, max_precond_dim: int = 10000,
    layout: str | None = None,
) -> tuple[Array, Slots]:  # fmt: skip
    new = {"exp_avg": beta1 * slots.get("exp_avg", 0.0) + (1 - beta1) * g}
    if grafting in ("adam", "rmsprop"):
        new["exp_avg_sq"] = mean(slots.get("exp_avg_sq", 0.0), g**2, grafting_beta2, t)
    m = new["exp_avg"] / (1 - beta1**t)
    u = d = direction(m, new.get("exp_avg_sq"), grafting, grafting_beta2, grafting_eps, t)
    late = t - start_preconditioning_step
    if x.ndim > 1 and x.size:
        rows = (lambda a: muon.rows_of_outputs(a, layout)) if x.ndim > 2 else (lambda a: a)
        due = late >= 0 and late % precondition_frequency == 0
        s, kept = multiplied(rows(m), rows(g), slots, t, max_precond_dim, beta2, eps, -inverse_exponent, due)
        new |= kept
        if s is not None and late >= 0:
            s = muon.back(s, x.shape, layout) if x.ndim > 2 else s
            u = s if grafting == "none" else s * math.sqrt(np.sum(d**2)) / (math.sqrt(np.sum(s**2)) + 1e-16)
    return x - learning_rate * (u + weight_decay * x), new


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, step, hyper=hyper, store=store)
