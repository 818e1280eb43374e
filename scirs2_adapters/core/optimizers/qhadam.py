"""QHAdam."""

from ..fields import fraction, number
from ..formulas import ema, one_minus_power
from ..slots import NONNEGATIVE
from ._moments import Moments


class QHAdam(Moments):
    """Adam whose means are mixed with the newest gradient and its square: old gradients count, but not alone.

    m = m + (1 - beta1) / (1 - beta1^t) * (g - m)
    v = v + (1 - beta2) / (1 - beta2^t) * (g * g - v)
    u = (nu1 * m + (1 - nu1) * g) / (sqrt(nu2 * v + (1 - nu2) * g * g + eps_root) + eps)
    p = p - lr * (u + weight_decay * p)

    Paper: Ma, Yarats 2018, arXiv 1810.06801.
    Differs from the paper: weight decay, which it does not have, is decoupled. Defaults are those that it advises; with
    nu1 = nu2 = 1, the defaults of its authors' code, this is Adam.
    """

    beta1 = fraction(0.995, "decay rate of the mean of gradients")
    nu1 = number(0.7, "weight of the mean beside the newest gradient", "must be in [0, 1]", lambda v: 0 <= v <= 1)
    nu2 = number(1.0, "weight of the mean of squares beside the newest", "must be in [0, 1]", lambda v: 0 <= v <= 1)

    def coefficients(self, math, t):
        gains = [(1 - beta) / one_minus_power(math, beta, t) for beta in (self.beta1, self.beta2)]
        return dict(zip(("gain1", "gain2"), gains, strict=True))

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, /, learning_rate, gain1, gain2, nu1, nu2, eps,
               eps_root):  # fmt: skip
        square = g * g
        exp_avg, exp_avg_sq = ema(exp_avg, g, gain1), ema(exp_avg_sq, square, gain2)
        root = xp.sqrt(ema(square, exp_avg_sq, nu2) + eps_root) + eps
        return learning_rate * ema(g, exp_avg, nu1) / root, exp_avg, exp_avg_sq
