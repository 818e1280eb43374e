"""D-Adaptation of SGD."""

from ..fields import fraction
from ..slots import COPY, model
from ._dadapt import DAdapted, grown, growth, moving


class DAdaptSGD(DAdapted, decay="l2", time_dependence="none", first_step="d0"):
    """Gradient descent that finds its own learning rate: d estimates the distance to the solution; leave lr at 1.

    r = r + d * lr * <g, s>;   s = s + d * lr * g      (g includes weight_decay * p; all products are of all parameters)
    p = momentum * p + (1 - momentum) * (p0 - s / |g0|)             (g0 is the first g that is not 0)
    d = max(d, min(2 * r / (|g0| * |s|), d * growth_rate))          (for the next step)

    Groups may differ in learning_rate, weight_decay and momentum. Of one with a learning rate of 0 nothing is learned.

    Paper: Defazio, Mishchenko 2023, arXiv 2301.07733, algorithm 4.
    Differs from the paper: as its authors' package dadaptation, but for |g0|, which there leaves weight decay out. The
    sums r and s are not divided by |g0|, so that they need not wait for it.
    """

    momentum = fraction(0.0, "part of the parameter that stays where it is")

    def coefficients(self, math, t):
        return growth(self, math) | {"moves": moving(self, math), "gain": 1 - self.momentum, "two": 2.0}

    def update(self, xp, p, g, s, p0: COPY, d: model("d0"), numerator_weighted: model(), g0_norm: model(), /,
               learning_rate, moves, gain, two, limited, largest, zero, one):  # fmt: skip
        g0_norm = xp.where(g0_norm > zero, g0_norm, xp.sqrt(xp.total(moves * (g * g))))
        divisor, k = xp.where(g0_norm > zero, g0_norm, one), d * learning_rate
        numerator_weighted = numerator_weighted + d * xp.total(learning_rate * g * s)
        s = s + k * g
        d = grown(xp, d, two * numerator_weighted / divisor, xp.sqrt(xp.total(s * s)), limited, largest, zero, one)
        return gain * (p - p0 + s / divisor), s, p0, d, numerator_weighted, g0_norm
