"""Functions of matrices for rules whose memory is of a projection of the gradient: onto the leading singular vectors of
one side, or onto directions that chance chooses.

One side of `matrix` is projected, and the other kept. A projection has a row for each place along the side that is
kept, (m, rank), however the matrix lies, and a basis a row for each place along the other, (n, rank).
"""

from __future__ import annotations

import math

from .eigenbases import along, leading, not_begun, upright
from .matrix import COPIES, Matrix
from .ops import Array, Scalar

#: A column that is this part of the longest is rounding: where what is projected has a lower rank than the basis.
ROUNDING = 1e-5


def leading_vectors(xp: Array, basis: Array, x: Array, due: Array, *, matrix: Matrix) -> Array:
    """The singular vectors of x to its largest singular values, along the side that is projected, computed anew if
    that is `due` or there are none yet; else the basis as it was. Their signs are those by which the sum of each is
    not negative.

    They are computed as eigenvectors of the Gram matrix of the shorter side.
    """
    rows = along(xp, x, matrix.projected, matrix)

    def refreshed() -> Array:
        longer = rows.shape[0] > rows.shape[1]
        gram = xp.syrk(xp.transpose(rows) if longer else rows, None, 0.0, 1.0)
        vectors = leading(xp, gram)[:, : matrix.rank]
        return upright(xp, xp.orthonormal(xp.matmul(rows, vectors), "reduced") if longer else vectors)

    return xp.cond(xp.maximum(not_begun(xp, basis[:, :1]), due), refreshed, lambda: basis)


def onto(xp: Array, like: Array, x: Array, basis: Array, *, matrix: Matrix) -> Array:
    """The projection of x onto a basis, which is like another projection."""
    del like
    return xp.matmul(along(xp, x, matrix.kept, matrix), basis)


def back(xp: Array, x: Array, low: Array, basis: Array, *, matrix: Matrix) -> Array:
    """What has this projection onto the basis, and nothing beside it, and is like x."""
    return _whole(xp, xp.matmul(low, xp.transpose(basis)), tuple(x.shape), matrix)


def begun_directions(xp: Array, basis: Array, *, matrix: Matrix) -> Array:
    """A basis, of numbers by chance with the variance 1 where there is none yet."""
    del matrix
    shape = tuple(basis.shape)

    def chosen() -> Array:
        return xp.like(xp.reshape(xp.random(math.prod(shape), 0.0, basis), shape), basis) * math.sqrt(3.0)

    return xp.cond(not_begun(xp, basis), chosen, lambda: basis)


def spanned(xp: Array, basis: Array, x: Array, *, matrix: Matrix) -> Array:
    """Orthonormal directions of the side that is kept, which span the projection of x onto the basis: the Q of its QR
    decomposition, with the signs by which the diagonal of the R is not negative. They are 0 where that is 0.
    """
    product = xp.matmul(along(xp, x, matrix.kept, matrix), basis)
    nothing = xp.max(xp.abs(product)) <= 0  # of which a decomposition has no derivative
    directions = xp.orthonormal(xp.where(nothing, xp.triu(product * 0.0 + 1.0), product), "reduced")
    signs = xp.where(xp.sum(directions * product, -2) < 0, -1.0, 1.0)
    return directions * xp.like(xp.where(nothing, 0.0, signs), product)


def across(xp: Array, like: Array, x: Array, directions: Array, *, matrix: Matrix) -> Array:
    """The projection of x onto directions of the side that is kept. It is like a basis."""
    del like
    return xp.matmul(along(xp, x, matrix.projected, matrix), directions)


def normalized(xp: Array, before: Array, columns: Array, eps: Scalar, *, matrix: Matrix) -> Array:
    """Columns divided by their length and `eps`; what was there `before` if all of them are 0. A column that is no
    longer than `ROUNDING` times the longest is 0.
    """
    del matrix
    largest = xp.max(xp.abs(columns))
    shares = columns / xp.where(largest <= 0, 1.0, largest)
    lengths = xp.sqrt(xp.sum(shares * shares, -2))
    rounding = lengths <= ROUNDING * xp.max(lengths)
    unit = xp.where(rounding, 0.0, columns / xp.where(rounding, 1.0, largest * lengths + eps))
    return xp.where(largest <= 0, before, unit)


def at_random(xp: Array, like: Array, x: Array, turn: Array, *, matrix: Matrix) -> Array:
    """The projection of x onto directions whose components chance has chosen, anew for each `turn`, with the mean 0 and
    the variance 1 / rank. They depend on the turn and the number of components alone, and are remembered nowhere.
    """
    rows = along(xp, x, matrix.kept, matrix)
    shape = rows.shape[1], matrix.rank
    chosen = xp.like(xp.reshape(xp.random(math.prod(shape), turn, like), shape), rows)
    return xp.matmul(rows, chosen * math.sqrt(3.0 / matrix.rank))


def scaled_lines(xp: Array, x: Array, step: Array, low: Array, tiny: Array, *, matrix: Matrix) -> Array:
    """x with each of its lines along the projected side as many times as long as the `step` of its projection is longer
    than the projection itself, `low`.
    """
    lengths = [xp.sqrt(xp.sum(a * a, -1)) for a in (step, low)]
    rows = along(xp, x, matrix.kept, matrix)
    return _whole(xp, rows * (lengths[0] / (lengths[1] + tiny)), tuple(x.shape), matrix)


def _whole(xp: Array, rows: Array, shape: tuple[int, ...], matrix: Matrix) -> Array:
    """A parameter of this shape from the matrix that has a row for each place along the side that is kept."""
    return matrix.whole(xp, rows if matrix.kept == -2 else xp.transpose(rows), shape)


def basis_numbers(shape: tuple[int, ...], matrix: Matrix, side: int) -> int:
    """How many numbers as many directions of this side have as `matrix` says."""
    return matrix.directions(shape) * math.prod(shape[a] for a in sorted((matrix.inputs, matrix.outputs))[side])


def spanned_numbers(shape: tuple[int, ...], matrix: Matrix) -> int:
    """How many numbers `spanned` holds at a time: four arrays like its result, less what comes after it of the other
    side, two arrays, which are counted and not there yet.
    """
    return 4 * basis_numbers(shape, matrix, matrix.kept) - 2 * basis_numbers(shape, matrix, matrix.projected)


def random_numbers_held(shape: tuple[int, ...], matrix: Matrix) -> int:
    """How many numbers `at_random` holds at a time: its directions, and what they are made of."""
    return 4 * basis_numbers(shape, matrix, matrix.projected)


COPIES |= {onto: 1, back: 1, across: 1, scaled_lines: 2}
