"""Muon: Jordan 2024 (kellerjordan.github.io/posts/muon), the algorithm and its Newton-Schulz iteration.

`adjust` "match_rms_adamw" is Liu et al., arXiv 2502.16982, eq. 4. Follows the code of torch.optim.Muon, and for kernels
that of the author's repository: `update.view(len(update), -1)`.

Differs from the post as torch's code does (torch's own documentation shows the post's form): the buffer is an
average, b = mu b + (1 - mu) g. The two differ in scale only, which the iteration removes, but the stored buffer
shows it. Differs from the author's code: the scale of a kernel is that of its matrix, where his is of its last two
axes. Leaves of more than two axes are kernels; after `batch_axes` of theirs, if at least two are left, a batch of
matrices. A leaf of fewer axes, or of more of which one side has length 1, takes AdamW with `adamw_weight_decay`, or
without one this `weight_decay`; with `route_all`, so does every leaf. AdamW's learning rate is `adamw_learning_rate`,
or `adamw_ratio` times this one; the ratio is 3e-4 / 0.02, the author's two rates, and 1 where steps are as large as
AdamW's. The iteration runs in `matrix_dtype`: float64 here, bfloat16 in torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from . import adamw
from ._walk import Array, History, Slots, Store, as_is, walk

#: AdamW's rate for Muon's.
RATIOS = {"original": 3e-4 / 0.02, "match_rms_adamw": 1.0, "spectral_norm": 3e-4 / 0.02, "none": 3e-4 / 0.02}
#: You, in modded-nanogpt; and Amsel et al., arXiv 2505.16932, Algorithm 1, with its 16 digits.
QUINTIC = [
    (4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037), (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]  # fmt: skip
POLAR_EXPRESS = [
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
]


def polynomials(schedule: str, coefficients: tuple, steps: int) -> list[tuple[float, float, float]]:
    """The coefficients of each step."""
    named = {"quintic": QUINTIC, "polar_express": POLAR_EXPRESS}.get(schedule, [coefficients])
    return [named[min(k, len(named) - 1)] for k in range(steps)]


def newton_schulz(u: Array, schedule: str, coefficients: tuple, steps: int, eps: float, dtype: type) -> Array:
    """Push the singular values s of u towards 1 by a s + b s^3 + c s^5, on the side with the smaller Gram matrix.

    Polar Express makes what enters each of its polynomials but the last a 1.01th smaller, and u itself once more.
    """
    tall, safety = u.shape[0] > u.shape[1], 1.01 if schedule == "polar_express" else 1.0
    y = (u.T if tall else u).astype(dtype)
    y = (y / max(math.sqrt(np.sum(y**2)), eps) / safety).astype(dtype)
    for a, b, c in polynomials(schedule, coefficients, steps):
        y = y if (a, b, c) == POLAR_EXPRESS[-1] else (y / safety).astype(dtype)
        gram = y @ y.T
        y = (a * y + (b * gram + c * gram @ gram) @ y).astype(dtype)
    return (y.T if tall else y).astype(float)


def scale(outputs: int, inputs: int, adjust: str, rms_rate: float) -> float:
    """The factor on the learning rate that makes steps of differently shaped matrices comparable."""
    if adjust == "match_rms_adamw":
        return rms_rate * math.sqrt(max(outputs, inputs))
    if adjust in ("none", "spectral_norm"):
        return 1.0 if adjust == "none" else math.sqrt(max(outputs, 1) / max(inputs, 1))
    return math.sqrt(max(1.0, outputs / max(inputs, 1)))


def value_or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def rows_of_outputs(m: Array, layout: str | None) -> Array:
    """One matrix or kernel with a row for each output: torch's [out, in, ...], or [..., in, out]."""
    if layout == "inputs_first":
        return m.reshape(math.prod(m.shape[:-1]), m.shape[-1]).T
    return m.reshape(m.shape[0], math.prod(m.shape[1:]))


def back(rows: Array, shape: tuple[int, ...], layout: str | None) -> Array:
    return (rows.T if layout == "inputs_first" else rows).reshape(shape)


def is_matrix(shape: tuple[int, ...], layout: str | None) -> bool:
    return len(shape) == 2 or (len(shape) > 2 and 1 not in rows_of_outputs(np.empty(shape), layout).shape)


def on_matrix(
    x: Array, g: Array, slots: Slots, *, matrix_dtype: type, rate: float, decay: float, momentum: float, nesterov: bool,
    ns: tuple, adjust: tuple, layout: str | None, batch: int,
) -> tuple[Array, Slots]:  # fmt: skip
    """A step of a matrix, a kernel, or a batch of them; `ns` are schedule, coefficients, steps and eps."""
    b = momentum * slots.get("momentum_buffer", 0.0) + (1.0 - momentum) * g
    u = momentum * b + (1.0 - momentum) * g if nesterov else b
    o = np.zeros(x.shape)
    for place in np.ndindex(x.shape[:batch]):
        rows = rows_of_outputs(u[place], layout)
        made = scale(*rows.shape, *adjust) * newton_schulz(rows, *ns, matrix_dtype)
        o[place] = back(made, u[place].shape, layout)
    return x - rate * (decay * x + o), {"momentum_buffer": b}


def on_others(t: int, x: Array, g: Array, slots: Slots, rate: float, decay: float, hyper: dict) -> tuple[Array, Slots]:
    """A step of anything else."""
    if unknown := [
        k for k in hyper if not k.startswith(("adamw_", "exclude_", "split_"))
    ]:  # by names, which arrays have not
        raise TypeError(f"no hyperparameters: {unknown}")
    hyper = {k.removeprefix("adamw_"): v for k, v in hyper.items() if k.startswith("adamw_")}
    decay = value_or(hyper.pop("weight_decay", None), decay)
    return adamw.step(t, x, g, slots, learning_rate=rate, weight_decay=decay, **hyper)


def step(
    t: int, x: Array, g: Array, slots: Slots, *, matrix_dtype: type, learning_rate: float = 1e-3, weight_decay: float
    = 0.1, momentum: float = 0.95, nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445,
    -4.7750, 2.0315), ns_steps: int = 5, ns_schedule: str = "constant", eps: float = 1e-7, adjust: str = "original",
    rms_rate: float = 0.2, adamw_learning_rate: float | None = None, adamw_ratio: float | None = None, route_all: bool
    = False, layout: str | None = None, batch_axes: int = 0, **adamw_options: float,
) -> tuple[Array, Slots]:  # fmt: skip
    batch = batch_axes * (x.ndim >= batch_axes + 2)
    if route_all or not is_matrix(x.shape[batch:], layout):
        rate = value_or(adamw_learning_rate, value_or(adamw_ratio, RATIOS[adjust]) * learning_rate)
        return on_others(t, x, g, slots, rate, weight_decay, adamw_options)
    hyper = {"momentum": momentum, "nesterov": nesterov, "adjust": (adjust, rms_rate), "layout": layout, "batch": batch}
    hyper |= {"rate": learning_rate, "decay": weight_decay, "ns": (ns_schedule, ns_coefficients, ns_steps, eps)}
    return on_matrix(x, g, slots, matrix_dtype=matrix_dtype, **hyper)


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, partial(step, matrix_dtype=matrix_dtype), hyper=hyper, store=store)
