"""The loop around a one-leaf formula: time, leaves, sign, storage. Nothing of an optimizer is decided here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

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


def walk_together(
    params: Sequence, grads: Sequence, step: Callable, *, hyper: dict, store: Store, copied: bool = True
) -> History:
    """As `walk`, of a step that sees all leaves: `step(t, xs, gs, leaves, model, **hyper)` returns the new xs, the new
    slots of each leaf and the new numbers of the model. Each leaf has a copy of its start, `p0`, if `copied`.
    """
    hyper = dict(hyper)
    sign = -1.0 if hyper.pop("maximize", False) else 1.0
    xs, model = [np.array(p, dtype=float) for p in params], Slots()
    leaves = [{"p0": kept(store, ("slot", "p0"), x)} if copied else Slots() for x in xs]
    params_history, state_history = [], []
    with np.errstate(all="ignore"):
        for t, gs in enumerate(grads, start=1):
            gs = [sign * np.asarray(g, dtype=float) for g in gs]
            xs, leaves, model = step(t, xs, gs, leaves, model, **hyper)
            xs = [kept(store, "param", x) for x in xs]
            leaves = [{k: kept(store, ("slot", k), v) for k, v in slots.items()} for slots in leaves]
            model = {k: kept(store, ("model", k), v) for k, v in model.items()}
            params_history.append(xs)
            state_history.append({"leaves": leaves, "model": model})
    return params_history, state_history


def walk_with_losses(
    params: Sequence, grads: Sequence, step: Callable, *, hyper: dict, values: Sequence[float], store: Store
) -> History:
    """As `walk_together`, of a step that is given the loss of each step too, in `values`."""
    losses = [-v if hyper.get("maximize") else v for v in values]
    return walk_together(params, grads, partial(step, values=losses), hyper=hyper, store=store, copied=False)


def total(xs: Sequence[Array]) -> float:
    """The sum of all elements of all leaves."""
    return float(sum(np.sum(x) for x in xs))
