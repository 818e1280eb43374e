"""FTRL-Proximal: McMahan et al., KDD 2013, algorithm 1, as TensorFlow's ResourceApplyFtrlV2 and Keras have it.

Differs from the paper as they do: the root of the sums is any power; l2 counts twice; the sums of squares may begin
above 0; shrinkage is a penalty in the gradient, but not in the sums of squares. Weight decay is an L2 term of the
gradient. Where the learning rate is 0, or nothing is known of an element, it stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int, x: Array, g: Array, slots: Slots, *, learning_rate: float = 1e-3, learning_rate_power: float = -0.5,
    initial_accumulator_value: float = 0.1, l1_regularization_strength: float = 0.0, l2_regularization_strength: float =
    0.0, l2_shrinkage_regularization_strength: float = 0.0, beta: float = 0.0, weight_decay: float = 0.0,
) -> tuple[Array, Slots]:  # fmt: skip
    del t
    n = slots.get("accumulator", np.full_like(x, initial_accumulator_value))
    z = slots.get("linear", np.zeros_like(x))
    if learning_rate == 0:
        return x, {"accumulator": n, "linear": z}
    g = g + weight_decay * x
    n_new = n + g**2
    sigma = (n_new**-learning_rate_power - n**-learning_rate_power) / learning_rate
    z = z + g + 2 * l2_shrinkage_regularization_strength * x - sigma * x
    slope = (beta + n_new**-learning_rate_power) / learning_rate + 2 * l2_regularization_strength
    shrunk = np.sign(z) * l1_regularization_strength - z
    new = np.where(np.abs(z) <= l1_regularization_strength, 0.0, shrunk) / np.where(slope == 0, 1.0, slope)
    return np.where(slope == 0, x, new), {"accumulator": n_new, "linear": z}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
