"""The loop around a one-leaf formula: time, leaves, sign, storage. Nothing of an optimizer is decided here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Array = np.ndarray
Slots = dict[str, Array]
History = tuple[list[list[Array]], list[dict]]
Store = Callable[[object, Array], Array]


def as_is(role: object, x: Array) -> Array:
    """A memory that rounds nothing."""
    del role
    return x


def kept(store: Store, role: object, x: object) -> Array:
    """What `store` leaves of x, again as float64."""
    return np.array(store(role, np.asarray(x, dtype=float)), dtype=float)


def walk(params: Sequence, grads: Sequence, step: Callable, *, hyper: dict, store: Store) -> History:
    """Take one step per entry of `grads`; NaN and inf travel through without a warning, as in any framework."""
    hyper = dict(hyper)
    sign = -1.0 if hyper.pop("maximize", False) else 1.0
    xs = [np.array(p, dtype=float) for p in params]
    leaves: list[Slots] = [{} for _ in xs]
    params_history, state_history = [], []
    with np.errstate(all="ignore"):
        for t, gs in enumerate(grads, start=1):
            for i, g in enumerate(gs):
                x, slots = step(t, xs[i], sign * np.asarray(g, dtype=float), leaves[i], **hyper)
                xs[i] = kept(store, "param", x)
                leaves[i] = {name: kept(store, ("slot", name), slot) for name, slot in slots.items()}
            params_history.append(list(xs))
            state_history.append({"leaves": list(leaves), "model": {}})
    return params_history, state_history
