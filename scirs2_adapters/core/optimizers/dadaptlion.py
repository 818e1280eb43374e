"""D-Adaptation of Lion."""

from ..fields import fraction
from ..formulas import ema
from ..slots import model
from ._dadapt import DAdapted, grown


class DAdaptLion(DAdapted, decay="inside", time_dependence="none", first_step="d0"):
    """Lion that finds its own learning rate: d estimates the distance to the solution; leave learning_rate at 1.

    k = d * lr;   c = sqrt(beta2)
    u = sign(beta1 * m + (1 - beta1) * g)
    r = c * r + (1 - c) * k * <u, s>                                (over all parameters)
    m = beta2 * m + k * (1 - beta2) * g;   s = c * s + k * (1 - c) * u
    p = p - (weight_decay * k * p + k * u)
    d = max(d, min(r / ((1 - c) * |s|_1), d * growth_rate))         (for the next step)

    Paper: Defazio, Mishchenko 2023, arXiv 2301.07733, which has no Lion.
    Differs from the paper: as its authors' package dadaptation has it, where m is scaled by d and the gradient beside
    it in u is not; growth_rate is that of the other rules.
    """

    beta1 = fraction(0.9, "weight of the momentum in the direction")
    beta2 = fraction(0.99, "decay rate of the momentum; its root is that of the estimate")

    def coefficients(self, math, t):
        one_minus_c = (1 - self.beta2) / (1 + math.sqrt(self.beta2))
        ones = {"one_minus_beta1": 1 - self.beta1, "one_minus_beta2": 1 - self.beta2, "one_minus_c": one_minus_c}
        return self.growth(math) | ones

    def update(self, xp, p, g, s, exp_avg, d: model("d0"), numerator_weighted: model(), /,
               learning_rate, weight_decay, one_minus_beta1, one_minus_beta2, one_minus_c,
               limited, growth, zero, one):  # fmt: skip
        k = d * learning_rate
        u = xp.sign(ema(exp_avg, g, one_minus_beta1))
        numerator_weighted = ema(numerator_weighted, k * xp.total(u * s), one_minus_c)
        s = ema(s, k * u, one_minus_c)
        d = grown(xp, d, numerator_weighted, one_minus_c * xp.total(xp.abs(s)), limited, growth, zero, one)
        return weight_decay * k * p + k * u, s, ema(exp_avg, k * g, one_minus_beta2), d, numerator_weighted
