"""Prodigy."""

from ..fields import flag, fraction, nonnegative, positive, rate
from ..formulas import average, one_minus_power
from ..rule import Rule
from ..slots import COPY, model


class Prodigy(Rule):
    """Adam that finds its own learning rate: d estimates the distance to the solution; leave learning_rate at 1.

    k = d * lr                                    (times sqrt(1 - beta2^t) / (1 - beta1^t) with use_bias_correction)
    r = beta3 * r + <k * (d / d0) * g, p0 - p>    (over all parameters)
    s = beta3 * s + k * (d / d0) * g
    m = beta1 * m + d * (1 - beta1) * g;   v = beta2 * v + d * d * (1 - beta2) * g * g
    d' = max(d, min(d_coef * r / |s|_1, d * growth_rate))
    p = p - (weight_decay * k * p + k * m / (sqrt(v) + d' * eps))

    Paper: Mishchenko, Defazio 2023, arXiv 2306.06101, algorithm 4.
    Differs from the paper: follows its authors' code (d0-scaled sums, the old d in k), and d is never lost to a NaN.
    """

    learning_rate = rate(1.0)
    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    beta3 = fraction(None, "decay rate of the distance estimate; None is sqrt(beta2)")
    eps = nonnegative(1e-8, "added to the root, times d")
    d0 = positive(1e-6, "first estimate of the distance")
    d_coef = positive(1.0, "multiplies the estimate; below 1 for smaller steps")
    growth_rate = positive(float("inf"), "largest growth of d in one step")
    use_bias_correction = flag(False, "correct the moments as Adam does")
    safeguard_warmup = flag(False, "keep a warm-up of the learning rate out of the estimate's denominator")
    decay = "inside"
    matches = {"optax": {}}

    def coefficients(self, xp, t):
        correct = self.use_bias_correction
        unbias = xp.sqrt(one_minus_power(xp, self.beta2, t)) / one_minus_power(xp, self.beta1, t) if correct else 1.0
        beta3 = xp.sqrt(self.beta2) if self.beta3 is None else self.beta3
        own = {"lr": self.learning_rate * unbias, "wd": self.weight_decay, "scale": 1 / self.d0, "beta3": beta3, "coef": self.d_coef}
        own |= {"beta1": self.beta1, "beta2": self.beta2, "gain1": 1 - self.beta1, "gain2": 1 - self.beta2}
        return own | {"eps": self.eps, "d0": self.d0, "growth": self.growth_rate}

    def update(
        self, xp, p, g, s, p0: COPY, exp_avg, exp_avg_sq, d: model("d0"), d_max: model("d0"), d_numerator: model(), /,
        lr, wd, scale, beta1, beta2, beta3, gain1, gain2, coef, eps, d0, growth, zero,
    ):  # fmt: skip
        k, reach = d * lr, d * scale
        d_numerator = beta3 * d_numerator + xp.total(reach * k * g * (p0 - p))
        s = beta3 * s + reach * (d if self.safeguard_warmup else k) * g
        s_norm = xp.total(xp.abs(s))
        estimate = xp.where(s_norm > zero, coef * d_numerator / s_norm, d)
        first = xp.where(d <= d0, xp.maximum(d, estimate), d)
        d_max = xp.maximum(d_max, estimate)
        d_new = xp.minimum(d_max, first * growth)
        exp_avg = beta1 * exp_avg + d * gain1 * g
        exp_avg_sq = beta2 * exp_avg_sq + d * d * gain2 * (g * g)
        return wd * k * p + k * exp_avg / (xp.sqrt(exp_avg_sq) + d_new * eps), s, p0, exp_avg, exp_avg_sq, d_new, d_max, d_numerator
