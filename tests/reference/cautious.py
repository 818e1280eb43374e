"""Cautious steps, arXiv 2411.16085, over any other twin: `_around.py` has it."""

from __future__ import annotations

from collections.abc import Sequence

from . import reference
from ._walk import History, Store, as_is


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    hyper = {"base": "adamw", "cautious": True, "learning_rate": 1e-3, "weight_decay": 1e-2, **hyper}
    return reference(hyper.pop("base"))(params, grads, hyper=hyper, matrix_dtype=matrix_dtype, store=store)
