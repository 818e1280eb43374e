"""Schedule-Free RAdam."""

from ..fields import flag, fraction, nonnegative, rate
from ..formulas import ema
from ..slots import NONNEGATIVE
from ._moments import rectifier
from ._schedule_free import BASE_SEQUENCE, WEIGHT, Averaged, averaged, squares


class ScheduleFreeRAdam(Averaged, decay="inside"):
    """RAdam with an average of all steps in the place of a falling learning rate, and so without a schedule and without
    a warm-up. What is trained is y; what is to be evaluated is the average x, which is not stored.

    v = beta2 * v + (1 - beta2) * g * g
    k = number of gradients of equal weight that v stands for, at most 2 / (1 - beta2) - 1
    l = lr * sqrt((k - 4) * (k - 2) * k_max / ((k_max - 4) * (k_max - 2) * k)) if k > 4, else 0 (lr, with
        silent_sgd_phase=False);   w = t^r * (largest l so far)^weight_lr_power;   c = w / (sum of w)
    u = (g / (sqrt(v / (1 - beta2^t)) + eps) if k > 4 else g) + weight_decay * y
    y = y + c * (z - y) - l * (1 - beta1 * (1 - c)) * u
    z = z - l * u;   x = y + (1 - 1 / beta1) * (z - y)              (so that y = (1 - beta1) * z + beta1 * x)

    Paper: Defazio et al. 2024, arXiv 2405.15682; Liu et al. 2019, arXiv 1908.03265.
    Differs from the paper: the combination is that of its authors' package schedulefree 1.4.
    """

    learning_rate = rate(2.5e-3)
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root")
    silent_sgd_phase = flag(True, "stand still until the mean of squares can be trusted", structural=False)

    def coefficients(self, math, t):
        rect = rectifier(math, self.beta2, t, 4.0)
        lr = self.learning_rate * math.where(rect > 0, rect, 0.0 if self.silent_sgd_phase else 1.0)
        return {"rect": rect, **self.averaging(t, lr), **squares(self, math, t)}

    def update(self, xp, p, g, z: BASE_SEQUENCE, steps_averaged: WEIGHT, weight_max: WEIGHT, exp_avg_sq: NONNEGATIVE, /,
               lr, rect, gain, inverse, eps, inner_decay, beta1, weight, older, alike, zero, one):  # fmt: skip
        exp_avg_sq = ema(exp_avg_sq, g * g, gain)
        direction = xp.where(rect > zero, g / (xp.sqrt(exp_avg_sq * inverse) + eps), g)
        u, averages = lr * (direction + inner_decay * p), (z, steps_averaged, weight_max)
        return *averaged(xp, p, u, *averages, beta1, weight, older, alike, zero, one), exp_avg_sq
