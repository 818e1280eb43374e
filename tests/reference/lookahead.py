"""Lookahead: Zhang et al., arXiv 1907.08610, Algorithm 1, over any other twin.

`hyper` holds `base` (a twin's name), `sync_period` (the paper's k) and `slow_step_size` (alpha); all other names
belong to the base. The base's state is kept at a synchronization. The paper's inner loop becomes a condition on t.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import reference
from ._around import around
from ._walk import Array, History, Slots, Store, as_is


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    hyper = {"base": "adamw", "sync_period": 5, "slow_step_size": 0.5, **hyper}
    base, k, alpha = reference(hyper.pop("base")), hyper.pop("sync_period"), hyper.pop("slow_step_size")

    def synchronize(t: int, i: int, before: Array, fast: Array, slots: Slots) -> tuple[Array, Slots]:
        phi = slots.get("slow", before)
        if t % k == 0:
            fast = phi = phi + alpha * (fast - phi)
        return fast, {"slow": phi}

    return around(base, synchronize, params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=store)
