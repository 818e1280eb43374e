"""RAdam."""

from ..fields import number
from ..formulas import adam_coefficients, ema
from ..slots import NONNEGATIVE
from ._moments import DecoupledMoments, rectifier


class RAdam(DecoupledMoments, eps_place="hat"):
    """Adam that steps like momentum until its mean of squares can be trusted, and is rectified after: a warm-up.

    m, v as in Adam                               (g includes weight_decay * p, unless decoupled_weight_decay)
    k = number of gradients of equal weight that v stands for, at most 2 / (1 - beta2) - 1
    r = sqrt((k - 4) * (k - 2) * k_max / ((k_max - 4) * (k_max - 2) * k))
    p = p - lr / (1 - beta1^t) * m * (r * sqrt(1 - beta2^t) / (sqrt(v) + eps) if k > threshold else 1)

    Paper: Liu et al. 2019, arXiv 1908.03265.
    Differs from the paper: the threshold is 5 where it has 4, as in its authors' code.
    """

    threshold = number(5.0, "number of gradients from which v is used", "must be a number > 4", lambda v: v > 4)
    matches = {"torch": {}, "optax": {"eps_place": "outside"}}

    def coefficients(self, math, t):
        return adam_coefficients(self, math, t) | {"rect": rectifier(math, self.beta2, t, self.threshold)}

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, /,
               step_size, one_minus_beta1, one_minus_beta2, inv_bias_correction2,
               eps, eps_root, rect, zero):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, g * g, one_minus_beta2)
        rectified = rect * exp_avg / (xp.sqrt(exp_avg_sq * inv_bias_correction2 + eps_root) + eps)
        return step_size * xp.where(rect > zero, rectified, exp_avg), exp_avg, exp_avg_sq
