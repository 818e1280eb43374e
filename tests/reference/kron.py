"""PSGD Kron: Li, arXiv 1512.04202 and 1809.10232, as evanatyourservice's kron_torch 0.3.3 has it: a triangular factor
for each axis, or a diagonal one, moved by a step along a triangle over a lower bound of a norm, and an RMS of at most
1.1 in what is stepped.

Differs from that code: the numbers of V are evenly spread, by APOLLO's hash, and laid out as outputs by inputs; factors
learn at multiples of a number of steps and are balanced at every hundredth of these, where theirs counts and draws;
gradients of zeros teach nothing, where theirs makes factors grow until they are infinite; what is multiplied has no
noise in it, as in psgd_jax 0.2.9, where theirs adds it in place; vectors decay; and kernels are matrices of their
outputs by all else. Walks with that code to 4e-13 over 100 steps of float64, and to 5e-16 in its factors, where it is
given this V, its solves are not made in float32 and its noise goes into a copy, by each way to save memory, with
triangular and diagonal factors of vectors and every fourth step. So it does with pytorch_optimizer 4.1's Kron, which
adds no noise and 1e-6 to the RMS, but for 4e-7 where an RMS is above 1.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import muon
from ._walk import Array, History, Slots, Store, as_is, walk
from .apollo import chosen

DAMPING = math.sqrt(float(np.finfo(np.float32).eps))


def wait(t: int, probability: float | None) -> int:
    """At multiples of this number of steps factors learn."""
    if probability is None:
        probability = min(max(math.exp(-0.001 * (t - 1 - 500)), 0.03), 1.0)
    return math.ceil(1 / probability)


def diagonals(shape: tuple[int, ...], longest: int, fewest_axes: int, axes: int, mode: str | None) -> list[bool]:
    """Which axes of a matrix of outputs by inputs have a diagonal factor."""
    saved = [mode == "all_diag"] * 2
    if mode == "one_diag" or (mode == "smart_one_diag" and shape[0] != shape[1]):
        saved[np.argsort(shape)[::-1][0]] = True
    return [n > longest or axes < fewest_axes or s for n, s in zip(shape, saved, strict=True)]


def norm_lower_bound(s: Array) -> float:
    column = s[:, np.argmax(np.sum(s * s, axis=0))]
    x = column @ s
    return float(np.linalg.norm(s @ (x / np.linalg.norm(x))))


def moved(q: Array, a: Array, b: Array, rate: float, diagonal: bool) -> Array:
    """A factor, as a matrix, after it has learned from a, which is to be like b along the first axis."""
    one, two = a @ a.T, b @ b.T
    if diagonal:
        one, two = np.diag(np.diag(one)), np.diag(np.diag(two))
        return q - rate * (one - two) @ q / np.max(one + two)
    return q - rate * np.triu(one - two) @ q / norm_lower_bound(one + two)


def learned(factors: list[Array], g: Array, t: int, rate: float, diagonal: list[bool]) -> list[Array]:
    if not np.any(g):
        return factors
    left, right = factors
    v = chosen(g.size, 1, t).reshape(g.shape)
    a = left @ (g + DAMPING * np.mean(np.abs(g)) * v) @ right.T
    b = np.linalg.inv(left).T @ v @ np.linalg.inv(right)
    return [moved(left, a, b, rate, diagonal[0]), moved(right, a.T, b.T, rate, diagonal[1])]


def balanced(factors: list[Array]) -> list[Array]:
    norms = [np.max(np.abs(q)) for q in factors]
    return [q * math.exp(np.mean(np.log(norms))) / n for q, n in zip(factors, norms, strict=True)]


def preconditioned(
    t: int, n: Array, seen: Array, slots: Slots, names: list[str], diagonal: list[bool], rate: float, scale: float,
    every: int,
) -> tuple[Array, Slots]:  # fmt: skip
    """A matrix times the preconditioner, and the factors that have names."""
    sides = len([name for name in names if name])
    at_first = [np.eye(k) * scale ** (1 / sides if name else 0) for k, name in zip(n.shape, names, strict=True)]
    held = [slots.get(f"{'diagonal' if d else 'factor'}_{name}") for d, name in zip(diagonal, names, strict=True)]
    each_side = zip(held, at_first, diagonal, strict=True)
    factors = [first if q is None else np.diag(q[:, 0]) if d else q for q, first, d in each_side]
    if t % (100 * every) == 0 and sides == 2:
        factors = balanced(factors)
    if t % every == 0:
        changed = learned(factors, seen, t, rate, diagonal)
        factors = [new if name else q for q, new, name in zip(factors, changed, names, strict=True)]
    left, right = factors
    kept = {}
    for q, d, name in zip(factors, diagonal, names, strict=True):
        if name:
            kept[f"{'diagonal' if d else 'factor'}_{name}"] = np.diag(q)[:, None] if d else q
    return left.T @ left @ n @ right.T @ right, kept


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-3, beta1: float = 0.9,
    weight_decay: float = 0.0, precond_lr: float = 0.1, precond_init_scale: float = 1.0,
    preconditioner_update_probability: float | None = None, momentum_into_precond_update: bool = True,
    max_size_triangular: int = 8192, min_ndim_triangular: int = 2, memory_save_mode: str | None = None,
    normalize_grads: bool = False, layout: str | None = None,
) -> tuple[Array, Slots]:  # fmt: skip
    g = g / (np.linalg.norm(g) + 1e-16) if normalize_grads else g
    m = beta1 * slots.get("exp_avg", 0.0) + (1 - beta1) * g
    n, new = m / (1 - beta1**t), {"exp_avg": m}
    if not x.size:
        return x, new
    rows, names = (lambda a: muon.rows_of_outputs(a, layout)), ["left", "right"]
    if x.ndim < 2:
        rows, names = (lambda a: a.reshape(-1, 1)), ["right", ""]
    elif layout == "inputs_first":
        names = names[::-1]
    modes = max_size_triangular, min_ndim_triangular, x.ndim, memory_save_mode
    seen = n if momentum_into_precond_update else g
    how = precond_lr, precond_init_scale, wait(t, preconditioner_update_probability)
    s, kept = preconditioned(t, rows(n), rows(seen), slots, names, diagonals(rows(x).shape, *modes), *how)
    s = s / max(1.0, math.sqrt(np.mean(s * s)) / 1.1)
    s = s.reshape(x.shape) if x.ndim < 2 else muon.back(s, x.shape, layout)
    return x - learning_rate * (s + weight_decay * x), new | kept


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, step, hyper=hyper, store=store)
