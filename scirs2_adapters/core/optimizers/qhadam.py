"""QHAdam."""

from ..fields import fraction, weight
from ..formulas import adam_coefficients, ema
from ..slots import NONNEGATIVE
from ._moments import Moments


class QHAdam(Moments):
    """Adam whose means are mixed with the newest gradient and its square: old gradients count, but not alone.

    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (g * g - v)
    u = nu1 * m / (1 - beta1^t) + (1 - nu1) * g
    p = p - lr * (u / (sqrt(nu2 * v / (1 - beta2^t) + (1 - nu2) * g * g + eps_root) + eps) + weight_decay * p)

    Paper: Ma, Yarats 2018, arXiv 1810.06801.
    Differs from the paper: weight decay, which it does not have, is decoupled. Defaults are those that it advises; with
    nu1 = nu2 = 1, the defaults of its authors' code, this is Adam.
    """

    beta1 = fraction(0.995, "decay rate of the mean of gradients")
    nu1 = weight(0.7, "weight of the mean beside the newest gradient")
    nu2 = weight(1.0, "weight of the mean of squares beside the newest")

    def coefficients(self, math, t):
        scalars = adam_coefficients(self, math, t)
        rates = {"mean_rate": self.nu1 * scalars["step_size"], "grad_rate": (1 - self.nu1) * self.learning_rate}
        return scalars | rates | {"old": self.nu2 * scalars["inv_bias_correction2"], "new": 1 - self.nu2}

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, /, one_minus_beta1, one_minus_beta2, mean_rate,
               grad_rate, old, new, eps, eps_root):  # fmt: skip
        square = g * g
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, square, one_minus_beta2)
        root = xp.sqrt(old * exp_avg_sq + new * square + eps_root) + eps
        return (mean_rate * exp_avg + grad_rate * g) / root, exp_avg, exp_avg_sq
