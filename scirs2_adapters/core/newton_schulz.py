"""Makes matrices orthogonal by the Newton-Schulz iteration, with polynomials by name."""

from __future__ import annotations

import math

from .matrix import LAST_AXES, Matrix
from .ops import Array

Polynomial = tuple[float, float, float]
#: Amsel et al. 2025, arXiv 2505.16932, as its Algorithm 1 has it with 8 steps: for singular values of 1e-3 to 1.
_POLAR = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
#: That algorithm divides what enters each polynomial but the last by this, and the matrix itself once more.
_SAFETY = 1.01


def _narrowed(polynomial: Polynomial, factor: float) -> Polynomial:
    """The polynomial of what is divided by this factor."""
    a, b, c = polynomial
    return a / factor, b / factor**3, c / factor**5


#: Polynomials by name, one for each iteration; the last one is that of all later iterations.
SCHEDULES: dict[str, tuple[Polynomial, ...]] = {
    "quintic": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
    "polar_express": (
        _narrowed(_POLAR[0], _SAFETY**2),
        *(_narrowed(p, _SAFETY) for p in _POLAR[1:-1]),
        _POLAR[-1],
    ),
}


def orthogonalize(
    xp: Array, x: Array, eps: Array, a: Array, b: Array, c: Array, *, steps: int, schedule: str = "constant",
    exact: bool = False, matrix: Matrix | None = None,
) -> Array:  # fmt: skip
    """Newton-Schulz iteration of odd degree 5: x with its singular values moved towards 1 (Jordan et al. 2024). Each
    step is the polynomial a, b, c, unless they have names in SCHEDULES.

    Works on the wide form, where the Gram matrix is the smaller one. `matrix` says which axes are the matrix's where
    the last two are not all there are; each matrix of a batch is divided by its own norm. A matrix of one row or column
    is orthogonal then, and left so if that is to be `exact`.
    """
    whole, x = x.shape, x if matrix is None else matrix.flat(xp, x)
    tall = x.shape[-2] > x.shape[-1]
    x = xp.transpose(x) if tall else x
    many = matrix is not None and len(x.shape) > 2
    square = xp.sum(xp.sum(x * x, -1), -2) if many else xp.sum(x * x, None)
    x = x / xp.maximum(xp.sqrt(square), eps)
    named = SCHEDULES.get(schedule, ((a, b, c),))
    for step in range(0 if exact and 1 in x.shape[-2:] else steps):
        a, b, c = named[min(step, len(named) - 1)]
        gram = xp.matmul(x, xp.transpose(x))
        x = a * x + xp.matmul(b * gram + c * xp.matmul(gram, gram), x)
    x = xp.transpose(x) if tall else x
    return x if matrix is None else matrix.whole(xp, x, tuple(whole))


def orthogonalize_numbers(shape: tuple[int, ...], matrix: Matrix = LAST_AXES) -> int:
    """The most numbers that this iteration holds at a time: x, two terms of the next x, and two Gram matrices."""
    small, large = sorted(matrix.sides(shape))
    return math.prod(shape) * (3 * large + 2 * small) // max(1, large)
