"""An exponential average of parameters over any other twin. It begins with the parameter before the first step."""

from __future__ import annotations

from collections.abc import Sequence

from . import reference
from ._around import around
from ._walk import Array, History, Slots, Store, as_is


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    hyper = {"base": "adamw", "ema_decay": 0.999, **hyper}
    base, decay = reference(hyper.pop("base")), hyper.pop("ema_decay")

    def average(t: int, i: int, before: Array, after: Array, slots: Slots) -> tuple[Array, Slots]:
        return after, {"weight_average": decay * slots.get("weight_average", before) + (1 - decay) * after}

    return around(base, average, params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=store)
