"""D-Adaptation of SGD."""

from ..fields import fraction
from ..slots import COPY, model
from ._dadapt import DAdapted, grown


class DAdaptSGD(DAdapted, decay="l2", time_dependence="none", first_step="d0"):
    """Gradient descent that finds its own learning rate: d estimates the distance to the solution; leave lr at 1.

    r = r + d * lr * <g, s>;   s = s + d * lr * g      (g includes weight_decay * p; all products are of all parameters)
    p = momentum * p + (1 - momentum) * (p0 - s / |g0|)             (g0 is the first g that is not 0)
    d = max(d, min(2 * r / (|g0| * |s|), d * growth_rate))          (for the next step)

    Paper: Defazio, Mishchenko 2023, arXiv 2301.07733, algorithm 4.
    Differs from the paper: as its authors' package dadaptation, but for |g0|, which there leaves weight decay out. The
    sums r and s are not divided by |g0|, so that they need not wait for it.
    """

    momentum = fraction(0.0, "part of the parameter that stays where it is")

    def coefficients(self, math, t):
        return self.growth(math) | {"one_minus_momentum": 1 - self.momentum, "two": 2.0}

    def update(self, xp, p, g, s, p0: COPY, d: model("d0"), numerator_weighted: model(), g0_norm: model(), /,
               learning_rate, one_minus_momentum, two, limited, growth, zero, one):  # fmt: skip
        g0_norm = xp.where(g0_norm > zero, g0_norm, xp.sqrt(xp.total(g * g)))
        divisor, k = xp.where(g0_norm > zero, g0_norm, one), d * learning_rate
        numerator_weighted = numerator_weighted + k * xp.total(g * s)
        s = s + k * g
        d = grown(xp, d, two * numerator_weighted / divisor, xp.sqrt(xp.total(s * s)), limited, growth, zero, one)
        return one_minus_momentum * (p - p0 + s / divisor), s, p0, d, numerator_weighted, g0_norm
