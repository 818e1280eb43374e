"""D-Adaptation of Lion."""

from ..fields import fraction
from ..formulas import ema
from ..slots import model
from ._dadapt import DAdapted, grown, growth, learned, moving


class DAdaptLion(DAdapted, decay="inside", time_dependence="none", first_step="d0"):
    """Lion that finds its own learning rate: d estimates the distance to the solution; leave learning_rate at 1.

    k = d * lr;   c = sqrt(beta2)
    u = sign(beta1 * m + (1 - beta1) * g)
    r = c * r + (1 - c) * k * <u, s>                                (over all parameters)
    m = beta2 * m + k * (1 - beta2) * g;   s = c * s + k * (1 - c) * u
    p = p - (weight_decay * k * p + k * u)
    d = max(d, min(r / ((1 - c) * |s|_1), d * growth_rate))         (for the next step)

    Groups may differ in learning_rate, weight_decay and beta1. Of one with a learning rate of 0 nothing is learned.

    Paper: Defazio, Mishchenko 2023, arXiv 2301.07733, which has no Lion.
    Differs from the paper: as its authors' package dadaptation has it, where m is scaled by d and the gradient beside
    it in u is not; growth_rate is that of the other rules.
    """

    beta1 = fraction(0.9, "weight of the momentum in the direction")
    beta2 = fraction(0.99, "decay rate of the momentum; its root is that of the estimate")

    def coefficients(self, math, t):
        one_minus_c = (1 - self.beta2) / (1 + math.sqrt(self.beta2))
        moves = moving(self, math)
        gains = {"gain1": 1 - self.beta1, "gain2": moves * (1 - self.beta2), "gain": moves * one_minus_c}
        return growth(self, math) | gains | {"moves": moves, "one_minus_c": one_minus_c}

    def update(self, xp, p, g, s, exp_avg, d: model("d0"), numerator_weighted: model(), /,
               learning_rate, weight_decay, moves, gain1, gain2, gain, one_minus_c,
               limited, largest, zero, one):  # fmt: skip
        k = d * learning_rate
        u = xp.sign(ema(exp_avg, g, gain1))
        ahead, s = d * xp.total(learning_rate * u * s), ema(s, k * u, gain)
        s_norm = xp.total(moves * xp.abs(s))
        numerator_weighted = learned(xp, numerator_weighted, ahead, one_minus_c, s_norm, zero)
        d = grown(xp, d, numerator_weighted, one_minus_c * s_norm, limited, largest, zero, one)
        return weight_decay * k * p + k * u, s, ema(exp_avg, k * g, gain2), d, numerator_weighted
