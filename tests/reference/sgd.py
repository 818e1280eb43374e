"""SGD with momentum: Polyak 1964 (heavy ball); Sutskever et al. 2013, eqs. 1-4; the form torch.optim.SGD documents.

Differs from the papers as torch does: the learning rate stays outside the buffer, dampening scales the new
gradient, and the first buffer is the undamped gradient itself (a buffer that starts at 0 would be g too, except
when dampening is not 0).
"""

from __future__ import annotations

from collections.abc import Sequence

from ._walk import Array, History, Slots, Store, as_is, walk


def step(
    t: int,
    x: Array,
    g: Array,
    slots: Slots,
    *,
    learning_rate: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    g = g + weight_decay * x
    if momentum == 0.0:
        return x - learning_rate * g, {}
    b = g if t == 1 else momentum * slots["momentum_buffer"] + (1.0 - dampening) * g
    d = g + momentum * b if nesterov else b
    return x - learning_rate * d, {"momentum_buffer": b}


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    del matrix_dtype
    return walk(params, grads, step, hyper=hyper, store=store)
