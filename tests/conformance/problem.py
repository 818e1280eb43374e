"""The one problem that every cell walks: leaves of every rank, seeded, with values that their dtype holds exactly.

Gradients do not depend on the parameters, so that two trajectories differ by what the optimizers do and by nothing
else. Some leaves are there for their edges: nothing in them, nothing but zeros, no gradient in the first two steps
(a root of zero, a norm of zero).
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

DTYPES = ("float64", "float32", "bfloat16", "float16")
#: As numpy knows them; bfloat16 is not numpy's own.
STORAGE = {d: np.dtype(ml_dtypes.bfloat16 if d == "bfloat16" else d) for d in DTYPES}
EPSILON = {d: float(ml_dtypes.finfo(STORAGE[d]).eps) for d in DTYPES}

#: name -> shape. No matrix is square, which would hide an exchange of its axes; no name is one that a rule acts on.
LEAVES = {
    "tall": (6, 3),
    "wide": (3, 8),
    "vector": (7,),
    "number": (),
    "stack": (2, 3, 4),
    "zeros": (5, 2),
    "nothing": (0, 3),
    "hollow": (3, 0),
}
STEPS = 12
ASLEEP = ("wide", "vector")
#: For walks of many steps: one leaf of each rank that a rule may treat in its own way.
FEW = ("tall", "wide", "vector", "number")

Arrays = list[np.ndarray]


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """What memory of this dtype keeps of x, as float64."""
    with np.errstate(over="ignore"):
        return np.asarray(x, dtype=float).astype(STORAGE[dtype]).astype(float)


@dataclass(frozen=True)
class Problem:
    """Starting parameters and one list of gradients for each step, float64 arrays that hold values of `dtype`; and the
    loss of each step, for optimizers that depend on it.
    """

    dtype: str
    names: tuple[str, ...]
    params: Arrays
    grads: list[Arrays]
    values: list[float]


def problem(dtype: str, steps: int = STEPS, drift: float = 0.5, names: tuple[str, ...] = tuple(LEAVES)) -> Problem:
    """N(0, 1) parameters and N(drift, 1) gradients; drift makes the way from the start correlate with the gradient."""
    rng = np.random.default_rng(7)
    params = [rounded(rng.standard_normal(LEAVES[name]) * (name != "zeros"), dtype) for name in names]
    grads = [[rounded(rng.standard_normal(LEAVES[name]) + drift, dtype) for name in names] for _ in range(steps)]
    for step in grads[:2] if drift else ():
        for i, name in enumerate(names):
            step[i] = np.asarray(step[i] * (name not in ASLEEP))
    values = rounded(10.0 * np.exp(np.random.default_rng(8).standard_normal(steps)), "float32").tolist()
    return Problem(dtype, names, params, grads, values)
