"""Dion, with AdamW for what is not a hidden matrix."""

from ..projections import across, back, begun_directions, normalized, spanned
from ..slots import basis, slot
from ._dion_fields import LowRankRule


class Dion(LowRankRule, time_dependence="none", moduli=None):
    """Muon along a few directions, which follow the momentum by one power iteration a step; what they miss is kept.

    B = M + g;   P = the Q of a QR decomposition of B @ Q;   R = B.T @ P
    M = B - (1 - momentum) * P @ R.T
    Q = R, each column divided by its length + eps
    p = p - (lr * weight_decay * p + lr * sqrt(outputs / inputs) * P @ Q.T)

    Q has a row for each place along the shorter side of the matrix, the inputs if both are of one length, and
    ceil(rank_fraction * that length) columns, at first numbers by chance. Where B is 0, Q stays as it is. Kernels of
    more than two axes are matrices of their outputs by all else. Embeddings, heads, biases, gains and vectors are
    stepped by AdamW with the adamw_ fields, as under Muon, and so are stacks of matrices; by default the AdamW part has
    the learning rate itself, as its authors' groups do.

    Paper: Ahn et al. 2025, arXiv 2504.05295.
    Differs from the paper: follows its authors' library dion 0.1, where Q is of the shorter side and weight decay is
    decoupled. The first Q is evenly spread and not normal, so that every framework has the same bits. The signs of P
    are those by which the diagonal of the decomposition is not negative, and theirs LAPACK's, which changes no step.
    A column of R below 1e-5 of the longest is rounding, and 0 here: where B has a lower rank than Q, theirs steps along
    such columns as far as along any other. Theirs decomposes a random sketch first, and takes no kernels.
    """

    def coefficients(self, math, t):
        return {"spent": 1 - self.momentum}

    def update(self, xp, p, g, momentum_buffer: slot(block_dtype=None, accurate=True), directions: basis("directed"), /,
               learning_rate, eps, spent, scale):  # fmt: skip
        momentum = momentum_buffer + g
        before = xp.matrix(begun_directions, directions)
        left = xp.matrix(spanned, before, momentum)
        right = xp.matrix(across, before, momentum, left)
        directions = xp.matrix(normalized, before, right, eps)
        step = xp.matrix(back, momentum, left, directions)
        momentum_buffer = momentum - spent * xp.matrix(back, momentum, left, right)
        return learning_rate * scale * step, momentum_buffer, directions
