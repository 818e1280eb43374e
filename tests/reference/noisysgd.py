"""Noisy SGD: Neelakantan et al., arXiv 1511.06807, section 3, with the noise of optax 0.2.8's `add_noise`, whose
variance is eta / t^gamma with t from 1.

Differs from both: a number of the noise is the sum of twelve of 16 bits, by APOLLO's hash of the step, the place of the
leaf, the seed and the place of the element; weight decay is decoupled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk_together
from .apollo import hashed

ODD = 0x1E3779B1


def number(x: int) -> float:
    """A normal number: twelve halves of hashes, each of them of the last one, less their mean, over 2^16."""
    total = 0
    for _ in range(6):
        x = hashed((x + ODD) % 2**32)
        total += x % 2**16 + x // 2**16
    return (total - 6 * (2**16 - 1)) / 2**16


def noise(shape: tuple[int, ...], *keys: int) -> Array:
    key = 0
    for k in keys:
        key = hashed((key + k) % 2**32)
    return np.reshape([number(hashed((ODD * i + key) % 2**32)) for i in range(math.prod(shape))], shape)


def step(
    t: int, xs: list[Array], gs: list[Array], leaves: list[Slots], model: Slots, *, learning_rate: float = 1e-3,
    eta: float = 0.01, gamma: float = 0.55, seed: int = 0, weight_decay: float = 0.0,
) -> tuple[list[Array], list[Slots], Slots]:  # fmt: skip
    deviation = math.sqrt(eta / t**gamma)
    noisy = [g + deviation * noise(g.shape, t, place, seed) for place, g in enumerate(gs)]
    return [x - learning_rate * (weight_decay * x + g) for x, g in zip(xs, noisy, strict=True)], leaves, model


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    return walk_together(params, grads, step, hyper=hyper, store=store, copied=False)
