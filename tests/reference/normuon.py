"""NorMuon: Li et al., arXiv 2510.05491, Algorithm 1.

Follows the library dion's `normuon.py`: means of squares along inputs, sqrt(V) + 1e-8, the step brought back to the
Frobenius norm that it had; `neurons="longer"` is `train_gpt.py` of modded-nanogpt and `optim.py` of nanochat: means
along the shorter side, 1 / sqrt(max(V, 1e-10)). Differs from the paper: scale and iteration are those of dion's code,
sqrt(outputs / inputs) and Polar Express; the buffer is an average, as in this package's Muon. Leaves of more than two
axes are matrices over the last two where `batch_axes` says so, and else AdamW's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from . import muon
from ._walk import Array, History, Slots, Store, as_is, walk


def normalized(o: Array, v: Array | float, beta2: float, eps: float, neurons: str) -> tuple[Array, Array]:
    """One matrix with a row for each output: the step and the new means of squares, a column or a row."""
    along = 1 if neurons == "outputs" or o.shape[0] >= o.shape[1] else 0
    v = beta2 * v + (1.0 - beta2) * (
        np.mean(o**2, axis=along, keepdims=True) if o.size else 0.0 * o.sum(along, keepdims=True)
    )
    n = o / (np.sqrt(v) + eps) if neurons == "outputs" else o / np.sqrt(np.maximum(v, 1e-10))
    size = math.sqrt(np.sum(n**2))
    return (n * (math.sqrt(np.sum(o**2)) / size) if size else n), v


def on_matrix(
    x: Array, g: Array, slots: Slots, *, matrix_dtype: type, rate: float, decay: float, momentum: float, nesterov: bool,
    ns: tuple, adjust: tuple, first: bool, beta2: float, variance_eps: float, neurons: str,
) -> tuple[Array, Slots]:  # fmt: skip
    """A step of a matrix or a batch of them; `first` says that inputs lie first, `ns` is as in Muon."""
    b = momentum * slots.get("momentum_buffer", 0.0) + (1.0 - momentum) * g
    u = momentum * b + (1.0 - momentum) * g if nesterov else b
    turn = np.ndarray.transpose if first else np.asarray
    o, variances = np.zeros(x.shape), {}
    for place in np.ndindex(x.shape[:-2]):
        rows = turn(u[place])
        made = muon.newton_schulz(rows, *ns, matrix_dtype)
        old = turn(slots["variance"][place]) if "variance" in slots else 0.0
        made, v = normalized(made, old, beta2, variance_eps, neurons)
        o[place], variances[place] = turn(muon.scale(*rows.shape, *adjust) * made), turn(v)
    v = np.array([*variances.values()]).reshape(*x.shape[:-2], *next(iter(variances.values())).shape)
    return x - rate * (decay * x + o), {"momentum_buffer": b, "variance": v}


def step(
    t: int, x: Array, g: Array, slots: Slots, *, matrix_dtype: type, learning_rate: float = 0.01, weight_decay: float
    = 0.01, momentum: float = 0.95, nesterov: bool = False, ns_coefficients: tuple[float, float, float] = (3.4445,
    -4.7750, 2.0315), ns_steps: int = 5, ns_schedule: str = "polar_express", eps: float = 1e-7, adjust: str =
    "spectral_norm", rms_rate: float = 0.2, beta2: float = 0.95, variance_eps: float = 1e-8, neurons: str = "outputs",
    adamw_learning_rate: float | None = None, adamw_ratio: float | None = None, route_all: bool = False, layout: str |
    None = None, batch_axes: int = 0, **adamw_options: float,
) -> tuple[Array, Slots]:  # fmt: skip
    if route_all or x.ndim < 2 or x.ndim != 2 + batch_axes * (x.ndim > 2):
        rate = muon.value_or(adamw_learning_rate, muon.value_or(adamw_ratio, muon.RATIOS[adjust]) * learning_rate)
        return muon.on_others(t, x, g, slots, rate, weight_decay, adamw_options)
    hyper = {"momentum": momentum, "nesterov": nesterov, "adjust": (adjust, rms_rate), "neurons": neurons}
    hyper |= {"rate": learning_rate, "decay": weight_decay, "ns": (ns_schedule, ns_coefficients, ns_steps, eps)}
    hyper |= {"beta2": beta2, "variance_eps": variance_eps, "first": layout == "inputs_first"}
    return on_matrix(x, g, slots, matrix_dtype=matrix_dtype, **hyper)


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk(params, grads, partial(step, matrix_dtype=matrix_dtype), hyper=hyper, store=store)
