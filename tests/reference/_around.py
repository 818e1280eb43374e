"""A twin around a twin: what a wrapper does to a step that its base has computed, and what every rule can be asked for.

The base stores its parameter last in a step, so what is done to a parameter is done there; the base goes on from what
is returned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from ._walk import Array, History, Slots, Store, as_is, kept

#: From the step, the place of the leaf, the parameter before and after the step, and the wrapper's slots to the
#: parameter that is kept and the new slots.
Change = Callable[[int, int, Array, Array, Slots], tuple[Array, Slots]]
MODES = ("cautious", "cautious_decay", "peak_rate")


def around(
    base: Callable, change: Change, params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type, store: Store
) -> History:
    """The trajectory of `base` with every step changed."""
    before, slots, history, calls = [np.array(p, dtype=float) for p in params], [{} for _ in params], [], [0]

    def changed(role: object, after: Array) -> Array:
        if role != "param":
            return store(role, after)
        t, i = divmod(calls[0], len(params))
        calls[0] += 1
        new, added = change(t + 1, i, before[i], np.asarray(after, dtype=float), slots[i])
        slots[i] = {name: kept(store, ("slot", name), x) for name, x in added.items()}
        before[i] = kept(store, "param", new)
        if i == len(params) - 1:
            history.append(list(slots))
        return before[i]

    path, states = base(params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=changed)
    for state, extra in zip(states, history, strict=True):
        state["leaves"] = [{**inner, **more} for inner, more in zip(state["leaves"], extra, strict=True)]
    return path, states


def with_modes(formula: Callable) -> Callable:
    """The trajectory that also understands what every rule does: cautious steps, Liang et al., arXiv 2411.16085,
    cautious weight decay, Chen et al., arXiv 2510.12402, and decay times lr / peak_rate, Defazio, arXiv 2506.02285.

    Decay beside the step is told from the step here, so it has to be given with the learning rate, and be decoupled.
    """

    @functools.wraps(formula)  # its module is where its step is found
    def trajectory(
        params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is,
        **losses: Sequence[float],
    ) -> History:  # fmt: skip
        hyper, base = dict(hyper), functools.partial(formula, **losses)
        cautious, cautious_decay, peak = (hyper.pop(mode, None) for mode in MODES)
        if peak is not None:
            hyper["weight_decay"] *= hyper["learning_rate"] / peak
        if not (cautious or cautious_decay):
            return base(params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=store)
        decay = hyper["weight_decay"] * hyper.get("learning_rate", 0.0)
        hyper["weight_decay"] = 0.0
        sign = -1.0 if hyper.get("maximize", False) else 1.0

        def change(t: int, i: int, before: Array, after: Array, slots: Slots) -> tuple[Array, Slots]:
            u = before - after
            agrees = u * sign * grads[t - 1][i] > 0
            if cautious:
                u = u * agrees * (agrees.size / (np.sum(agrees) + 1))
            decayed = before * (u * before >= 0) if cautious_decay else before
            return before - u - decay * decayed, {}

        return around(base, change, params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=store)

    return trajectory
