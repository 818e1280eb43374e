"""Prodigy."""

from math import inf

from ..fields import flag, fraction, nonnegative, number, positive, rate
from ..formulas import ema, one_minus_power
from ..rule import Rule
from ..slots import COPY, NONNEGATIVE, model
from ._dadapt import growth, moving


class Prodigy(Rule, decay="inside", first_step="d0"):
    """Adam that finds its own learning rate: d estimates the distance to the solution; leave learning_rate at 1.

    k = d * lr                                    (times sqrt(1 - beta2^t) / (1 - beta1^t) with use_bias_correction)
    r = beta3 * r + <k * (d / d0) * g, p0 - p>    (over all parameters)
    s = beta3 * s + k * (d / d0) * g
    m = beta1 * m + d * (1 - beta1) * g;   v = beta2 * v + d * d * (1 - beta2) * g * g
    d' = max(d, min(d_coef * r / |s|_1, d * growth_rate))
    p = p - (weight_decay * k * p + k * m / (sqrt(v) + d' * eps))

    Groups may differ in learning_rate, weight_decay, beta1 and eps. Of one with a learning rate of 0 nothing is
    learned.

    Paper: Mishchenko, Defazio 2023, arXiv 2306.06101, algorithm 4.
    Differs from the paper: follows its authors' code (d0-scaled sums, the old d in k), and d is never lost to a NaN.
    Theirs refuses groups of several learning rates above 0; here each is that of its group in all sums.
    """

    learning_rate = rate(1.0)
    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    beta3 = fraction(None, "decay rate of the distance estimate; None is sqrt(beta2)")
    eps = nonnegative(1e-8, "added to the root, times d")
    d0 = positive(1e-6, "first estimate of the distance")
    d_coef = positive(1.0, "multiplies the estimate; below 1 for smaller steps")
    growth_rate = number(inf, "largest growth of d in one step", "must be a number >= 1", lambda v: v >= 1)
    use_bias_correction = flag(False, "correct the moments as Adam does")
    safeguard_warmup = flag(False, "keep a warm-up of the learning rate out of the estimate's denominator")
    #: Whether nothing is learned of what stands still, at a learning rate of 0.
    freezes = True
    #: optax squares a complex number itself, and its estimate is complex.
    matches = {"optax": {"use_bias_correction": True, "moduli": None, "freezes": False}}

    def coefficients(self, math, t):
        correction = math.sqrt(one_minus_power(math, self.beta2, t)) / one_minus_power(math, self.beta1, t)
        one_minus_beta3 = (1 - self.beta2) / (1 + math.sqrt(self.beta2)) if self.beta3 is None else 1 - self.beta3
        moves = moving(self, math)
        return growth(self, math) | {
            "moves": moves, "gain1": moves * (1 - self.beta1), "gain2": moves * (1 - self.beta2),
            "gain3": moves * one_minus_beta3, "one_minus_beta3": one_minus_beta3,
            "step_size": self.learning_rate * (correction if self.use_bias_correction else 1),
        }  # fmt: skip

    def update(self, xp, p, g, s, p0: COPY, exp_avg, exp_avg_sq: NONNEGATIVE,
               d: model("d0"), d_max: model("d0"), d_numerator: model(), /,
               step_size, weight_decay, moves, gain1, gain2, gain3, one_minus_beta3,
               d_coef, eps, d0, limited, largest, zero, one):  # fmt: skip
        k, reach = d * step_size, d / d0
        s = s + (reach * (moves * d if self.safeguard_warmup else k) * g - gain3 * s)
        s_norm = xp.total(moves * xp.abs(s))
        ahead = xp.total(reach * k * g * (p0 - p)) - one_minus_beta3 * d_numerator
        d_numerator = d_numerator + xp.where(s_norm > zero, ahead, zero)
        divisor = xp.where(s_norm > zero, s_norm, one)
        estimate = xp.where(s_norm > zero, d_coef * d_numerator / divisor, d)
        first = xp.where(d <= d0, xp.maximum(d, estimate), d)
        d_max = xp.maximum(d_max, estimate)
        d_new = xp.where(limited > zero, xp.minimum(d_max, first * largest), d_max)
        exp_avg, exp_avg_sq = ema(exp_avg, d * g, gain1), ema(exp_avg_sq, d * d * (g * g), gain2)
        u = weight_decay * k * p + k * exp_avg / (xp.sqrt(exp_avg_sq) + d_new * eps)
        return u, s, p0, exp_avg, exp_avg_sq, d_new, d_max, d_numerator
