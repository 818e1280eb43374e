"""Gradient centralization: Yong et al., arXiv 2004.01461, equation 1, over any other twin."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence

import numpy as np

from . import reference
from ._walk import Array, History, Store, as_is


def centered(g: Array, layout: str | None) -> Array:
    """The gradient less its mean over all axes but that of outputs: the first, or the last where inputs come first."""
    if g.ndim < 2 or not g.size:
        return g
    inputs = tuple(range(g.ndim - 1)) if layout == "inputs_first" else tuple(range(1, g.ndim))
    return g - np.mean(g, axis=inputs, keepdims=True)


def trajectory(
    params: Sequence, grads: Sequence, *, hyper: dict, matrix_dtype: type = float, store: Store = as_is
) -> History:
    """Parameters and state after each step; see the package's docstring."""
    hyper = {"base": "adamw", **hyper}
    base, layout = reference(hyper.pop("base")), hyper.pop("layout", None)
    if "layout" in inspect.signature(getattr(sys.modules[base.__module__], "step", base)).parameters:
        hyper["layout"] = layout
    changed = [[centered(np.asarray(g, dtype=float), layout) for g in step] for step in grads]
    return base(params, changed, hyper=hyper, matrix_dtype=matrix_dtype, store=store)
