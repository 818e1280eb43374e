"""Stochastic weight averaging: Izmailov et al., arXiv 1803.05407, Algorithm 1, over any other twin: the mean of the
parameters at steps swa_start, swa_start + swa_period, ...; before, the parameter itself.
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
    hyper = {"base": "adamw", "swa_start": 1, "swa_period": 1, **hyper}
    base, start, period = reference(hyper.pop("base")), hyper.pop("swa_start"), hyper.pop("swa_period")

    def average(t: int, i: int, before: Array, after: Array, slots: Slots) -> tuple[Array, Slots]:
        mean = after if t < start else slots.get("weight_average", before)
        if t >= start and (t - start) % period == 0:
            n_models = (t - start) // period
            mean = (mean * n_models + after) / (n_models + 1)
        return after, {"weight_average": mean}

    return around(base, average, params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=store)
