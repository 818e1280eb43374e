"""Gradients divided by max(1, rms / max_rms), tensor by tensor, before any other twin: optax.clip_by_block_rms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import reference
from ._walk import History, Store, as_is


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    hyper = {"base": "adamw", "max_rms": 1.0, **hyper}
    base, most = reference(hyper.pop("base")), hyper.pop("max_rms")
    clipped = [[g / max(1.0, np.sqrt(np.mean(g * g)) / most) if np.size(g) else g for g in step] for step in grads]
    return base(params, clipped, hyper=hyper, matrix_dtype=matrix_dtype, store=store)
