"""Lookahead: Zhang et al., arXiv 1907.08610, Algorithm 1, over any other twin.

`hyper` holds `base` (a twin's name), `sync_period` (the paper's k) and `slow_step_size` (alpha); all other names
belong to the base. The base's state is kept at a synchronization. The paper's inner loop becomes a condition on t.
Synchronization is the last thing done to a parameter in a step, so it is done where the base stores it; the
parameters returned are the fast ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import reference
from ._walk import Array, History, Store, as_is, kept


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    hyper = {"base": "adamw", "sync_period": 5, "slow_step_size": 0.5, **hyper}
    base, k, alpha = reference(hyper.pop("base")), hyper.pop("sync_period"), hyper.pop("slow_step_size")
    slow = [[kept(store, ("slot", "slow"), p) for p in params]]

    def synchronize(role: object, fast: Array) -> Array:
        if role != "param":
            return store(role, fast)
        if len(slow[-1]) == len(params):
            slow.append([])
        t, phi = len(slow) - 1, slow[-2][len(slow[-1])]
        if t % k == 0:
            fast = phi = phi + alpha * (fast - phi)
        slow[-1].append(kept(store, ("slot", "slow"), phi))
        return store("param", fast)

    params_history, state_history = base(params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=synchronize)
    for state, phis in zip(state_history, slow[1:], strict=True):
        state["leaves"] = [{**slots, "slow": phi} for slots, phi in zip(state["leaves"], phis, strict=True)]
    return params_history, state_history
