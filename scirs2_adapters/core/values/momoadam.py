"""Momo of Adam."""

from ..fields import fraction, nonnegative, rate
from ..formulas import ema, one_minus_power
from ..slots import NONNEGATIVE, model
from ._momo import LOWER_BOUND, ModelBased, along


class MomoAdam(ModelBased):
    """Adam whose step follows the loss: as far as a model of the loss falls to its lower bound, and at most lr.

    f = beta1 * f + (1 - beta1) * loss;   c = beta1 * c + (1 - beta1) * <g, p>     (sums are over all parameters)
    m = beta1 * m + (1 - beta1) * g;      v = beta2 * v + (1 - beta2) * g * g
    d = m / (sqrt(v / (1 - beta2^t)) + eps);   k = 1 - beta1^t
    h = (1 + lr * weight_decay) * (f - k * lower_bound - c) + <m, p>
    p = (p - min(lr / k, max(h, 0) / <m, d>) * d) / (1 + lr * weight_decay)
    adapt_lower_bound: lower_bound is what the model of the loss leaves of it, and never less than it was at first

    Each step is given the loss of which g is the gradient.

    Paper: Schaipp, Ohana, Eickenberg, Defazio, Gower 2023, arXiv 2305.07583, algorithms 2 and 3.
    Differs from the paper: no step is taken while <m, d> is at most 2^-52, as in optax.
    """

    learning_rate = rate(1e-2)
    beta1 = fraction(0.9, "decay rate of the means of losses and gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root")
    #: optax divides the parameter alone by 1 + lr * weight_decay. Its sums over complex numbers are complex.
    matches = {"optax": {"shrinks_step": False, "moduli": None}}

    def coefficients(self, math, t):
        return self.model_coefficients(one_minus_power(math, self.beta1, t)) | {
            "one_minus_beta1": 1 - self.beta1,
            "one_minus_beta2": 1 - self.beta2,
            "inv_bias_correction2": 1 / one_minus_power(math, self.beta2, t),
        }

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, barf: model(), gamma: model(), lb: LOWER_BOUND, /,
               value, one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps, lower_bound, shrink, divisor,
               grown, most, correction, half, tiny, zero, one):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, g * g, one_minus_beta2)
        barf, gamma = ema(barf, value, one_minus_beta1), ema(gamma, xp.total(g * p), one_minus_beta1)
        direction = exp_avg / (xp.sqrt(exp_avg_sq * inv_bias_correction2) + eps)
        sums = xp.total(exp_avg * p), xp.total(exp_avg * direction)
        scalars = lower_bound, grown, most, correction, half, tiny, zero, one
        tau, lb = along(xp, self.adapt_lower_bound, barf, gamma, lb, *sums, *scalars)
        return shrink * p + tau / divisor * direction, exp_avg, exp_avg_sq, barf, gamma, lb
