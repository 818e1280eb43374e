"""What may be between two gradients of the same parameters, as data: each relation says so in words, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from scirs2_adapters.core.cpu import storage

from .measure import gap, norm

#: All gradients or parameters of a step in one row.
Row = np.ndarray


class Pair(NamedTuple):
    """The gradients of both runs at a step, the parameters there, and the gradients of the first run around it."""

    a: Row
    b: Row
    p: Row
    neighbours: Mapping[int, Row]


def _scaled(pair: Pair, tolerance: float) -> str:
    size = float(pair.a @ pair.a)
    factor = float(pair.a @ pair.b) / size if size else 0.0
    if not factor or gap(pair.b, factor * pair.a, tolerance).times > 1:
        return ""
    if factor < 0:
        return f"it is {factor:.6g} times A's: the sign of the loss, or `maximize`"
    power = float(np.log2(factor))
    if abs(power) > 3.5 and abs(power - round(power)) < 1e-4:
        why = "a loss scale that was not taken out, or a sum where the other takes a mean over as many"
        return f"it is 2^{round(power)} times A's: {why}"
    why = "a mean where the other takes a sum, gradients that are accumulated, or clipping by norm"
    return f"it is {factor:.6g} times A's: {why}"


def _rounded(pair: Pair, tolerance: float) -> str:
    for dtype in ("bfloat16", "float16"):
        few = storage.load(storage.store(pair.a.astype(np.float32), dtype), dtype).astype(np.float64)
        if np.isfinite(few).all() and gap(pair.b, few, min(tolerance, 1e-5)).times <= 1:
            return f"it is A's, rounded to {dtype}"
    return ""


def _decayed(pair: Pair, tolerance: float) -> str:
    off, size = pair.b - pair.a, float(pair.p @ pair.p)
    factor = float(off @ pair.p) / size if size else 0.0
    if not factor or norm(off) <= tolerance * norm(pair.a) or gap(off, factor * pair.p, 1e-3).times > 1:
        return ""
    return f"it has {factor:.6g} times the parameter added: weight decay in the loss, or before the optimizer"


def _shifted(pair: Pair, tolerance: float) -> str:
    for steps, row in pair.neighbours.items():
        if row.shape == pair.b.shape and gap(pair.b, row, tolerance).times <= 1:
            return f"it is A's of the step {'after' if steps > 0 else 'before'}: batches are one apart"
    return ""


def _clipped(pair: Pair, tolerance: float) -> str:
    limit = float(np.max(np.abs(pair.b), initial=0.0))
    if (
        limit < np.max(np.abs(pair.a), initial=0.0)
        and gap(pair.b, np.clip(pair.a, -limit, limit), tolerance).times <= 1
    ):
        return f"it is A's, clipped by value at {limit:.6g}"
    return ""


def _vanished(pair: Pair, tolerance: float) -> str:
    return "" if np.isfinite(pair.b).all() or not np.isfinite(pair.a).all() else "it is not finite"


RELATIONS: tuple[Callable[[Pair, float], str], ...] = (_vanished, _rounded, _scaled, _decayed, _shifted, _clipped)


def relation(pair: Pair, tolerance: float) -> str:
    """The first relation that holds; nothing if none does."""
    return next((said for one in RELATIONS if (said := one(pair, tolerance))), "")
