"""Makes matrices orthogonal by the Newton-Schulz iteration, with polynomials by name."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .matrix import LAST_AXES, STACKING, Matrix
from .ops import Array, Scalar

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


#: From so many rows and so many columns for each of them on, it costs less to take so many polynomials of the Gram
#: matrix before x is multiplied. After more float32 would not know small singular values, whose squares it rounds.
ROWS, WIDE, TOGETHER, HALF_TOGETHER = 128, 2, 3, 2

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
    exact: bool = False, half: bool = False, matrix: Matrix | None = None,
) -> Array:  # fmt: skip
    """Newton-Schulz iteration of odd degree 5: x with its singular values moved towards 1 (Jordan et al. 2024). Each
    step is the polynomial a, b, c, unless they have names in SCHEDULES.

    Works on the wide form, where the Gram matrix is the smaller one. `matrix` says which axes are the matrix's where
    the last two are not all there are; each matrix of a batch is divided by its norm. A matrix of one row or column
    is orthogonal then, and left so if that is to be `exact`. The iteration runs in bfloat16 if `half`.
    """
    original, x = x, x if matrix is None else matrix.flat(xp, x)
    tall = x.shape[-2] > x.shape[-1]
    x = xp.transpose(x) if tall else x
    many = matrix is not None and len(x.shape) > 2
    square = xp.sum(xp.sum(x * x, -1), -2) if many else xp.sum(x * x, None)
    x = x / xp.maximum(xp.sqrt(square), eps)
    named = SCHEDULES.get(schedule, ((a, b, c),))
    steps = 0 if exact and 1 in x.shape[-2:] else steps
    polynomials = [named[min(step, len(named) - 1)] for step in range(steps)]
    x = xp.bfloat16(x) if half else x
    rows, columns = x.shape[-2:]
    together = 1 if rows < ROWS or columns < WIDE * rows else HALF_TOGETHER if half else TOGETHER
    for first in range(0, steps, together):
        x = _moved(xp, x, polynomials[first : first + together], original, half)
    x = xp.like(xp.transpose(x) if tall else x, original)
    return x if matrix is None else matrix.whole(xp, x, tuple(original.shape))


def _moved(xp: Array, x: Array, polynomials: Sequence[tuple[Scalar, Scalar, Scalar]], wide: Array, half: bool) -> Array:
    """The polynomials of x, one after another: all but the last product are of Gram matrices, which commute. What x is
    multiplied by is `scale` and a matrix, `factor`. Numbers meet matrices of the dtype of `wide` or in `addmm`, and are
    not rounded if these are `half`: polynomials are small differences of large terms.
    """
    rounded = xp.bfloat16 if half else lambda x: x
    gram, factor, scale = rounded(xp.syrk(x, None, 0.0, 1.0)), None, 1.0
    for k, (a, b, c) in enumerate(polynomials):
        even = rounded(xp.syrk(gram, gram, b, c))
        if factor is None:
            factor = even
        else:
            first = rounded(a * xp.like(factor, wide) + scale * xp.like(even, wide))
            factor = xp.addmm(first, even, factor, 1.0, 1.0)
        scale = a if k == 0 else a * scale
        if k + 1 < len(polynomials):
            half_way = xp.addmm(gram, even, gram, a, 1.0)
            gram = xp.addmm(half_way, even, half_way, a, 1.0)
    return rounded(xp.addmm(x, factor, x, scale, 1.0))


STACKING.add(orthogonalize)


def orthogonalize_numbers(shape: tuple[int, ...], matrix: Matrix = LAST_AXES) -> int:
    """The most numbers that this iteration holds at a time: x, two terms of the next x, and two Gram matrices, or five
    of their like where several polynomials are taken together.
    """
    small, large = sorted(matrix.sides(shape))
    squares = 5 if small >= ROWS and large >= WIDE * small else 2
    return math.prod(shape) * (3 * large + squares * small) // max(1, large)
