"""Functions of matrices for preconditioners that are a Kronecker product: of each side of a matrix they have a factor,
which is upper triangular, (n, n), or the diagonal of one, (n, 1).

A factor Q stands for the preconditioner Q.T @ Q of its side. `sides` says of which each of the factors is, -2 or -1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .eigenbases import along, gram_numbers, lengths, not_begun
from .matrix import COPIES, LAST_AXES, Matrix
from .ops import Array, Scalar

#: What a gradient is damped by before a factor learns from it, times the mean of its absolute values: the root of the
#: machine epsilon of float32.
DAMPING = 2.0**-11.5


def ready_factor(
    xp: Array, q: Array, scale: Scalar, due: Scalar, *others: Array, matrix: Matrix = LAST_AXES
) -> Array:  # fmt: skip
    """A factor before it is used: `scale` times the identity if it has not begun, and is 0; as large as the other one,
    which does not change their product, if that is `due`; else as it was.
    """
    del matrix

    def begun() -> Array:
        ones = q * 0.0 + 1.0
        if _is_diagonal(q):
            return scale * ones
        upper = xp.triu(ones)
        return scale * (upper * xp.transpose(upper))

    def balanced() -> Array:
        size, other = (xp.max(xp.abs(x)) for x in (q, *others))
        return q * xp.sqrt(other / size)

    return xp.cond(not_begun(xp, q[:1, :1]), begun, lambda: xp.cond(due, balanced, lambda: q) if others else q)


def whitened(
    xp: Array, x: Array, due: Scalar, turn: Scalar, *factors: Array, sides: tuple[int, ...], matrix: Matrix = LAST_AXES
) -> Array:
    """Q x of both sides, of x with a little of the noise added, if that is `due`."""

    def product() -> Array:
        flat = matrix.flat(xp, x)
        damped = flat + DAMPING * xp.mean(xp.abs(flat), None) * _noise(xp, flat, turn, matrix)
        return matrix.whole(xp, _each(xp, damped, factors, sides, _times), tuple(x.shape))

    return xp.cond(due, product, lambda: x)


def whitened_noise(
    xp: Array, x: Array, due: Scalar, turn: Scalar, *factors: Array, sides: tuple[int, ...], matrix: Matrix = LAST_AXES
) -> Array:
    """What a factor is to do to the noise, if that is `due`: to be divided by Q.T on both sides. It is like x."""

    def quotient() -> Array:
        noise = _noise(xp, matrix.flat(xp, x), turn, matrix)
        return matrix.whole(xp, _each(xp, noise, factors, sides, _divided), tuple(x.shape))

    return xp.cond(due, quotient, lambda: x)


def moved_factor(
    xp: Array, q: Array, due: Scalar, rate: Scalar, a: Array, b: Array, *, side: int, matrix: Matrix = LAST_AXES
) -> Array:
    """A factor after a step towards one by which `whitened` gradients, a, are like `whitened_noise`, b, if that is
    `due`: less by this rate times (a @ a.T - b @ b.T) over the norm of the sum of both, of which the upper triangle
    counts, times the factor. Gradients of zero teach nothing: a factor that follows them grows without end.

    Both are divided by the largest number first: float32 has room for the ratio where it has none for the squares.
    """

    def moved() -> Array:
        one, two, step = _terms(xp, a, b, rate, side, matrix, lambda x: xp.syrk(x, None, 0.0, 1.0))
        size = _norm_bound(xp, one + two)
        change = xp.triu(one - two)
        del one, two  # of this size there are four at a time, and no more
        return xp.trmm(q, change, q, -step / size)

    return xp.cond(due, moved, lambda: q)


def moved_diagonal(
    xp: Array, q: Array, due: Scalar, rate: Scalar, a: Array, b: Array, *, side: int, matrix: Matrix = LAST_AXES
) -> Array:
    """The same of a diagonal factor, for which the diagonals count alone."""

    def moved() -> Array:
        one, two, step = _terms(xp, a, b, rate, side, matrix, lambda x: xp.sum(x * x, -1))
        return q - step * ((one - two) / xp.max(one + two)) * q

    return xp.cond(due, moved, lambda: q)


def _terms(
    xp: Array, a: Array, b: Array, rate: Scalar, side: int, matrix: Matrix, term: Callable[[Array], Array]
) -> tuple[Array, Array, Array]:
    """What a factor moves by, of gradients and of noise, and the size of its step: 0 where all gradients are 0."""
    sizes = [xp.max(xp.abs(x)) for x in (a, b)]
    one, two = (term(along(xp, x, side, matrix) / xp.maximum(*sizes)) for x in (a, b))
    return one, two, rate * xp.sign(sizes[0])


def factor_numbers(shape: tuple[int, ...], side: int, matrix: Matrix = LAST_AXES) -> int:
    """The most numbers that a triangular factor's move holds at a time, besides the new factor."""
    square = gram_numbers(shape, side, matrix)
    return 3 * square + square // 4


def preconditioned(xp: Array, x: Array, *factors: Array, sides: tuple[int, ...], matrix: Matrix = LAST_AXES) -> Array:
    """Q.T @ Q of each side times x."""
    flat = _each(xp, matrix.flat(xp, x), factors, sides, _times_gram)
    return matrix.whole(xp, flat, tuple(x.shape))


def _noise(xp: Array, x: Array, turn: Scalar, matrix: Matrix) -> Array:
    """Numbers by chance of mean 0 and variance 1 for a matrix like x: the same ones if it lies the other way round."""
    turned = matrix.inputs < matrix.outputs
    shape = tuple(x.shape)[::-1] if turned else tuple(x.shape)
    noise = xp.like(xp.reshape(xp.random(math.prod(shape), turn, x), shape), x) * math.sqrt(3.0)
    return xp.transpose(noise) if turned else noise


def _each(
    xp: Array, x: Array, factors: tuple[Array, ...], sides: tuple[int, ...],
    act: Callable[[Array, Array, Array], Array],
) -> Array:  # fmt: skip
    """x after each factor has acted on the rows of its side."""
    for side, q in zip(sides, factors, strict=True):
        x = act(xp, q, x) if side == -2 else xp.transpose(act(xp, q, xp.transpose(x)))
    return x


def _is_diagonal(q: Array) -> bool:
    return bool(q.shape[-1] == 1)


def _times(xp: Array, q: Array, rows: Array) -> Array:
    return q * rows if _is_diagonal(q) else xp.matmul(q, rows)


def _times_gram(xp: Array, q: Array, rows: Array) -> Array:
    return q * (q * rows) if _is_diagonal(q) else xp.matmul(xp.transpose(q), xp.matmul(q, rows))


def _divided(xp: Array, q: Array, rows: Array) -> Array:
    return rows / q if _is_diagonal(q) else xp.solve_triangular(xp.transpose(q), rows)


def _norm_bound(xp: Array, x: Array) -> Array:
    """A lower bound of the largest eigenvalue of a positive semidefinite matrix: how much longer it makes what it makes
    of its own longest column. The authors have not seen it below 0.7 times the eigenvalue.
    """
    column = xp.take(x, xp.order(lengths(xp, x, x))[:1], 1)
    direction = xp.matmul(x, column)
    return _norm(xp, xp.matmul(x, direction)) / _norm(xp, direction)


def _norm(xp: Array, x: Array) -> Array:
    return xp.sqrt(xp.sum(x * x, None))


COPIES |= {whitened: 3, whitened_noise: 3, preconditioned: 2}
