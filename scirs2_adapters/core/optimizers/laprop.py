"""LaProp."""

from ..fields import nonnegative, rate
from ..formulas import adam_coefficients, ema
from ..slots import NONNEGATIVE
from ._moments import Moments


class LaProp(Moments):
    """Adam that divides each gradient by the root mean square and averages after, so the betas can be chosen freely.

    v = v + (1 - beta2) * (g * g - v)
    m = m + (1 - beta1) * (g / (sqrt(v / (1 - beta2^t) + eps_root) + eps) - m)
    p = p - lr * (m / (1 - beta1^t) + weight_decay * p)

    Paper: Ziyin, Wang, Ueda 2020, arXiv 2002.04839.
    Differs from the paper: weight decay is decoupled and times the learning rate. Its authors' code averages steps that
    are multiplied by the learning rate; that is the same while this is constant.
    """

    learning_rate = rate(4e-4)
    eps = nonnegative(1e-15, "added to the root; bounds the step where gradients vanish")
    coefficients = adam_coefficients

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, /, step_size, one_minus_beta1, one_minus_beta2,
               inv_bias_correction2, eps, eps_root):  # fmt: skip
        exp_avg_sq = ema(exp_avg_sq, g * g, one_minus_beta2)
        scaled = g / (xp.sqrt(exp_avg_sq * inv_bias_correction2 + eps_root) + eps)
        exp_avg = ema(exp_avg, scaled, one_minus_beta1)
        return step_size * exp_avg, exp_avg, exp_avg_sq
