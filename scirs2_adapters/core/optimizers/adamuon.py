"""AdaMuon, with AdamW for what is not a hidden matrix."""

import math as numbers

from ..fields import choice, flag, fraction, nonnegative, rate
from ..formulas import ema
from ..slots import NONNEGATIVE
from ._muon_fields import ADJUST, MatrixRule


class AdaMuon(MatrixRule, time_dependence="step"):
    """Muon of the sign of its momentum, whose steps are divided, element by element, by the root of a running mean of
    their squares.

    b = b + (1 - momentum) * (g - b)
    u = g + momentum * (b - g) if nesterov else b
    o = orthogonalize(sign(u) if signed else u)
    v = v + (1 - beta2) * (o * o - v)
    n = o / (sqrt(v) + variance_eps)
    p = p - (lr * weight_decay * p + lr * scale * n * size / norm(n))
    size = norm of an orthogonal matrix of this shape, so that with the default scale a step's root mean square is
        lr * rms_rate

    Matrices, scales and the AdamW part are those of Muon. A stack of matrices has one norm.

    Paper: Si, Zhang, Shen 2025, arXiv 2507.11005.
    Differs from the paper: the look-ahead of the authors' code, which has beta2 = 0.999 and no sign; its bias
    correction is a factor of n and so changes nothing but what variance_eps is added to.
    """

    learning_rate = rate(0.02)
    adjust = choice("match_rms_adamw", "scale of the step by the matrix's shape", *ADJUST)
    weight_decay = nonnegative(0.01, "weight decay, times the learning rate; for both parts")
    beta2 = fraction(0.95, "decay rate of the mean of squares")
    variance_eps = nonnegative(1e-8, "added to the root of the mean of squares")
    signed = flag(True, "make the sign of the average orthogonal", structural=False)

    def coefficients(self, math, t):
        return super().coefficients(math, t) | {"gain2": 1 - self.beta2}

    def leaf_coefficients(self, leaf):
        longer = max(1, *self.matrix(leaf).sides(leaf.shape))
        return super().leaf_coefficients(leaf) | {"size": numbers.sqrt(numbers.prod(leaf.shape) / longer)}

    def update(self, xp, p, g, momentum_buffer, variance: NONNEGATIVE, /,
               learning_rate, gain, mix, a, b, c, eps, scale, size, gain2, variance_eps):  # fmt: skip
        u, momentum_buffer = self.averaged(g, momentum_buffer, gain, mix)
        o = self.orthogonal(xp, xp.sign(u) if self.signed else u, eps, a, b, c)
        variance = ema(variance, o * o, gain2)
        n = o / (xp.sqrt(variance) + variance_eps)
        return learning_rate * scale * (size / xp.maximum(xp.norm(n), eps)) * n, momentum_buffer, variance
