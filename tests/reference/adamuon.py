"""AdaMuon: Si et al., arXiv 2507.11005, Algorithm 1.

Differs from the paper as the authors' code does: a look-ahead (which `nesterov=False` leaves out, as the paper has it);
`signed=False` is that code, but for its bias correction, which the alignment by the norm takes out again. What is
stepped as which matrix, and AdamW's part, is Muon's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from . import muon
from ._walk import Array, History, Slots, Store, as_is, walk


def on_matrix(
    x: Array, g: Array, slots: Slots, *, matrix_dtype: type, rate: float, decay: float, momentum: float, nesterov: bool,
    ns: tuple, adjust: tuple, layout: str | None, batch: int, beta2: float, variance_eps: float, signed: bool,
) -> tuple[Array, Slots]:  # fmt: skip
    """A step of a matrix, a kernel, or a batch of them, which has one norm; `ns` is as in Muon."""
    b = momentum * slots.get("momentum_buffer", 0.0) + (1.0 - momentum) * g
    u = momentum * b + (1.0 - momentum) * g if nesterov else b
    u, o, shape = np.sign(u) if signed else u, np.zeros(x.shape), (1, 1)
    for place in np.ndindex(x.shape[:batch]):
        rows = muon.rows_of_outputs(u[place], layout)
        o[place], shape = muon.back(muon.newton_schulz(rows, *ns, matrix_dtype), u[place].shape, layout), rows.shape
    v = beta2 * slots.get("variance", 0.0) + (1.0 - beta2) * o**2
    n = o / (np.sqrt(v) + variance_eps)
    of_orthogonal = math.sqrt(min(shape) * math.prod(x.shape[:batch]))
    n = n * of_orthogonal / max(math.sqrt(np.sum(n**2)), ns[-1])
    return x - rate * (decay * x + muon.scale(*shape, *adjust) * n), {"momentum_buffer": b, "variance": v}


def step(
    t: int, x: Array, g: Array, slots: Slots, *, matrix_dtype: type, learning_rate: float = 0.02, weight_decay: float
    = 0.01, momentum: float = 0.95, nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445,
    -4.7750, 2.0315), ns_steps: int = 5, ns_schedule: str = "constant", eps: float = 1e-7, adjust: str =
    "match_rms_adamw", rms_rate: float = 0.2, beta2: float = 0.95, variance_eps: float = 1e-8, signed: bool = True,
    adamw_learning_rate: float | None = None, adamw_ratio: float | None = None, route_all: bool = False, layout: str |
    None = None, batch_axes: int = 0, **adamw_options: float,
) -> tuple[Array, Slots]:  # fmt: skip
    batch = batch_axes * (x.ndim >= batch_axes + 2)
    if route_all or not muon.is_matrix(x.shape[batch:], layout):
        rate = muon.value_or(adamw_learning_rate, muon.value_or(adamw_ratio, muon.RATIOS[adjust]) * learning_rate)
        return muon.on_others(t, x, g, slots, rate, weight_decay, adamw_options)
    hyper = {"momentum": momentum, "nesterov": nesterov, "adjust": (adjust, rms_rate), "layout": layout, "batch": batch}
    hyper |= {"rate": learning_rate, "decay": weight_decay, "ns": (ns_schedule, ns_coefficients, ns_steps, eps)}
    hyper |= {"beta2": beta2, "variance_eps": variance_eps, "signed": signed}
    return on_matrix(x, g, slots, matrix_dtype=matrix_dtype, **hyper)


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, partial(step, matrix_dtype=matrix_dtype), hyper=hyper, store=store)
