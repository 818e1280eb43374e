"""When two arrays differ by more than rounding: norms of differences, against norms of what is compared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

#: What runs of the same formula may differ by, as a part of a norm, by dtype: sums in another order, not more.
TOLERANCES = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2}
_PLACES = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class Gap(NamedTuple):
    """The largest difference of two arrays, that of their norms as a part, and how often that is what is allowed."""

    largest: float
    part: float
    times: float


def norm(x: np.ndarray) -> float:
    """The Euclidean norm."""
    return float(np.linalg.norm(x.reshape(-1)))


def gap(a: np.ndarray, b: np.ndarray, tolerance: float, slack: float = 0.0) -> Gap:
    """How far b is from a, where so much is allowed beside `tolerance` times the norm of a's finite numbers. Numbers
    that are not finite differ from all others but themselves.
    """
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    off = np.where(alike, 0.0, a - b)
    size = norm(a[np.isfinite(a)])
    if not np.isfinite(off).all():
        return Gap(np.inf, np.inf, np.inf)
    length, allowed = norm(off), tolerance * size + (slack if np.isfinite(slack) else 0.0)
    part = length / size if size else np.inf * length if length else 0.0
    times = length / allowed if allowed else np.inf if length else 0.0
    return Gap(float(np.max(np.abs(off), initial=0.0)), part, times)


def rounding(p: np.ndarray, dtype: str) -> float:
    """What storing a parameter twice takes from the difference of the two."""
    return 2 * _PLACES.get(dtype, 2.0**-23) * norm(p[np.isfinite(p)])


def tolerance_of(dtypes: tuple[str, ...], asked: float | None) -> float:
    """That of the coarser of these dtypes."""
    return asked if asked is not None else max(TOLERANCES.get(d, TOLERANCES["float32"]) for d in dtypes)
