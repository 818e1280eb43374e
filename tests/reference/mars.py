"""MARS: Yuan et al., arXiv 2411.10438, with the gradient of the last batch (MARS-approx), over any other twin. The
first gradient has changed from 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import reference
from ._walk import History, Store, as_is, kept


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    hyper = {"base": "adamw", "mars_gamma": 0.025, "mars_beta": 0.95, **hyper}
    base, gamma, beta = reference(hyper.pop("base")), hyper.pop("mars_gamma"), hyper.pop("mars_beta")
    sign = -1.0 if hyper.pop("maximize", False) else 1.0
    last, corrected, states = [np.zeros(np.shape(p)) for p in params], [], []
    for step in grads:
        now = [sign * np.asarray(g, dtype=float) for g in step]
        c = [g + gamma * beta / (1 - beta) * (g - old) for g, old in zip(now, last, strict=True)]
        corrected.append([x / max(1.0, np.sqrt(np.sum(x * x))) for x in c])
        last = [kept(store, ("slot", "last_grad"), g) for g in now]
        states.append(last)
    path, history = base(params, corrected, hyper=hyper, matrix_dtype=matrix_dtype, store=store)
    for state, gradients in zip(history, states, strict=True):
        state["leaves"] = [{**s, "last_grad": g} for s, g in zip(state["leaves"], gradients, strict=True)]
    return path, history
