"""StableAdamW."""

from ..fields import fraction, nonnegative
from ..formulas import adam_coefficients, ema
from ..rule import Rule
from ..slots import NONNEGATIVE


class StableAdamW(Rule, decay="inside"):
    """AdamW whose learning rate falls, tensor by tensor, where gradients outgrow what the second moment has seen.

    m, v as in AdamW;   r = sqrt(v / (1 - beta2^t))
    l = lr / max(1, rms(g / max(r, eps)))
    p = p - l * (weight_decay * p + m / (1 - beta1^t) / (r + eps))

    It needs no clipping of gradients: spikes of the loss come from steps that a stale second moment makes too long.

    Paper: Wortsman et al. 2023, arXiv 2304.13013.
    Differs from the paper: nothing; defaults are those of the package torch-optimi.
    """

    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.99, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-6, "added to the root, and least root where steps are measured")
    weight_decay = nonnegative(1e-2, "weight decay, times the learning rate of the tensor")
    eps_root = 0.0
    coefficients = adam_coefficients

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, /,
               learning_rate, weight_decay, one_minus_beta1, one_minus_beta2, inv_bias_correction1,
               inv_bias_correction2, eps, one):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, g * g, one_minus_beta2)
        root = xp.sqrt(exp_avg_sq * inv_bias_correction2)
        size = g / xp.maximum(root, eps)
        lr = learning_rate / xp.maximum(one, xp.sqrt(xp.mean(size * size)))
        return lr * (weight_decay * p + inv_bias_correction1 * exp_avg / (root + eps)), exp_avg, exp_avg_sq
