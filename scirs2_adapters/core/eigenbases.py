"""Functions of Gram matrices, g @ g.T and g.T @ g: their running means, eigenvectors and inverse roots."""

from __future__ import annotations

import math

from .matrix import LAST_AXES, Matrix
from .ops import Array, Scalar

#: Added to no eigenvalue but put in the place of a largest one of 0, whose power would be infinite.
LEAST = 1e-30


def moved_gram(xp: Array, mean: Array, x: Array, gain: Array, *, side: int, matrix: Matrix | None = None) -> Array:
    """The running mean of Gram matrices of one side, -2 or -1, moved by `gain` towards that of x."""
    x = along(xp, x, side, matrix)
    return xp.syrk(x, mean, 1.0 - gain, gain)


def gram_numbers(shape: tuple[int, ...], side: int, matrix: Matrix = LAST_AXES) -> int:
    """How many numbers the Gram matrix of a side has."""
    return math.prod(shape[a] for a in sorted((matrix.inputs, matrix.outputs))[side]) ** 2


def turned(
    xp: Array, x: Array, *bases: Array, sides: tuple[int, ...], back: bool, matrix: Matrix | None = None
) -> Array:
    """x in the coordinates of these bases, whose columns are orthonormal, or `back` from them: left.T @ x @ right.
    There is one basis for each of the sides; along another side x stays as it is.
    """
    whole, x = x.shape, x if matrix is None else matrix.flat(xp, x)
    for side, basis in zip(sides, bases, strict=True):
        if side == -2:
            x = xp.matmul(basis if back else xp.transpose(basis), x)
        else:
            x = xp.matmul(x, xp.transpose(basis) if back else basis)
    return x if matrix is None else matrix.whole(xp, x, tuple(whole))


def rebased(
    xp: Array, x: Array, due: Array, *bases: Array, sides: tuple[int, ...], matrix: Matrix | None = None
) -> Array:
    """x in the coordinates of the second half of these bases, from those of the first, if they have changed."""
    old, new = bases[: len(sides)], bases[len(sides) :]

    def moved() -> Array:
        whole = turned(xp, x, *old, sides=sides, back=True, matrix=matrix)
        return turned(xp, whole, *new, sides=sides, back=False, matrix=matrix)

    return xp.cond(due, moved, lambda: x)


def not_begun(xp: Array, numbers: Array) -> Array:
    """1 where all these numbers of a slot are 0, as before a parameter's first gradient; else 0, of their dtype. The
    step count does not say it: Keras counts steps in which a parameter has had no gradient.
    """
    return xp.like(xp.where(xp.sum(xp.abs(numbers), None) <= 0, 1.0, 0.0), numbers)


def eigenbasis(
    xp: Array, basis: Array, gram: Array, other: Array, x: Array, first: Array, due: Array, *, side: int,
    matrix: Matrix | None = None,
) -> Array:  # fmt: skip
    """The eigenvectors of a Gram matrix of one side. They are decomposed anew if this is the `first` step or there are
    none yet: the Gram matrices are then those of x alone. If that is `due`, one step of the power iteration moves them;
    else they stay.

    At first a Gram matrix of the longer side has many eigenvectors of the value 0, and each LAPACK returns others. So
    they are computed from those of the shorter side, `other`, and completed by reflections, which are the same
    everywhere.
    """
    x = along(xp, x, side, matrix)
    longer = x.shape[0] > x.shape[1]

    def initial() -> Array:
        vectors = leading(xp, other if longer else gram)
        return upright(xp, xp.orthonormal(xp.matmul(x, vectors)) if longer else vectors)

    begins = xp.maximum(not_begun(xp, basis[:, :1]), first)
    return xp.cond(begins, initial, lambda: xp.cond(due, lambda: _iterated(xp, basis, gram), lambda: basis))


def gram_power(
    xp: Array, old: Array, gram: Array, due: Scalar, ready: Scalar, scale: Scalar, eps: Scalar, exponent: Scalar, *,
    matrix: Matrix | None = None,
) -> Array:  # fmt: skip
    """`scale` times a Gram matrix, to this power, if that is `due`, or `ready` and not yet there; else `old`. To each
    eigenvalue `eps` times the largest is added before, and none is below 0.

    Eigenvalues are divided by the largest first: float32 has room for the ratio where it has none for the sum.
    """

    def power() -> Array:
        vectors = _eigenvectors(xp, gram)
        values = xp.maximum(lengths(xp, vectors, xp.matmul(gram, vectors)), 0.0)
        largest = xp.maximum(values[-1:], LEAST)
        roots = xp.power(values / largest + eps, exponent / 2) * xp.power(scale * largest, exponent / 2)
        return xp.syrk(vectors * roots, None, 0.0, 1.0)

    begins = not_begun(xp, old[:1, :1]) * ready
    return xp.cond(xp.maximum(begins, due), power, lambda: old)


def along(xp: Array, x: Array, side: int, matrix: Matrix | None) -> Array:
    """x as a matrix whose rows are of this side."""
    x = x if matrix is None else matrix.flat(xp, x)
    return x if side == -2 else xp.transpose(x)


def _eigenvectors(xp: Array, gram: Array) -> Array:
    """Eigenvectors, that of the smallest value first; NaN if the matrix is not finite, which LAPACK does not take."""
    nothing = gram - gram
    return xp.eigenvectors(xp.where(nothing >= 0, gram, 0.0)) + xp.sum(nothing, None)


def leading(xp: Array, gram: Array) -> Array:
    """Eigenvectors, that of the largest value first."""
    vectors = _eigenvectors(xp, gram)
    return xp.take(vectors, xp.order(lengths(xp, vectors, xp.matmul(gram, vectors))), 1)


def lengths(xp: Array, basis: Array, product: Array) -> Array:
    """What the matrix that made this product does to each column of the basis, as a list of numbers."""
    return xp.reshape(xp.sum(basis * product, -2), (-1,))


def _iterated(xp: Array, basis: Array, gram: Array) -> Array:
    """One step of the power iteration. Columns are made orthonormal in the order of their lengths, and keep their
    places, so that what is measured along them keeps its meaning.
    """
    product = xp.matmul(gram, basis)
    order = xp.order(lengths(xp, basis, product))
    vectors = xp.orthonormal(xp.take(product, order, 1))
    return upright(xp, xp.take(vectors, xp.order(-order), 1))


def upright(xp: Array, basis: Array) -> Array:
    """The columns with signs by which their sums are not negative: eigenvectors have none."""
    total = xp.sum(basis, -2)
    return xp.where(total < 0, -basis, basis)
