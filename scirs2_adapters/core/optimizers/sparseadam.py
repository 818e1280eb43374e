"""SparseAdam."""

from ..fields import fraction, nonnegative
from ..formulas import adam_coefficients, ema
from ..rule import Rule
from ..slots import NONNEGATIVE


class SparseAdam(Rule, decay="l2", eps_place="hat", sparse="rows"):
    """Adam for gradients of which most rows are zero: PyTorch's formula, on the rows that a sparse gradient gives.

    m = m + (1 - beta1) * (g - m)                 (g includes weight_decay * p)
    v = v + (1 - beta2) * (g * g - v)
    p = p - lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps)

    Paper: Kingma, Ba 2014, arXiv 1412.6980.
    Differs from the paper: eps is its "epsilon hat", added to the root of the uncorrected v, as in PyTorch.
    """

    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root")
    eps_root = 0.0
    matches = {"torch": {}}
    coefficients = adam_coefficients

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, /,
               step_size, one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, g * g, one_minus_beta2)
        return step_size * exp_avg / (xp.sqrt(exp_avg_sq * inv_bias_correction2) + eps), exp_avg, exp_avg_sq
