"""Schedule-Free AdamW."""

from ..fields import fraction, nonnegative, rate
from ..formulas import ema
from ..slots import NONNEGATIVE
from ._schedule_free import BASE_SEQUENCE, WEIGHT, Averaged, WarmedUp, averaged, squares


class ScheduleFreeAdamW(Averaged, WarmedUp, decay="inside"):
    """AdamW with an average of all steps in the place of a falling learning rate. What is trained is y; what is to be
    evaluated is the average x, which is not stored.

    l = lr * min(1, t / warmup_steps);   w = t^r * (largest l so far)^weight_lr_power;   c = w / (sum of w)
    v = beta2 * v + (1 - beta2) * g * g
    u = g / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * y
    y = y + c * (z - y) - l * (1 - beta1 * (1 - c)) * u
    z = z - l * u;   x = y + (1 - 1 / beta1) * (z - y)              (so that y = (1 - beta1) * z + beta1 * x)

    Paper: Defazio et al. 2024, arXiv 2405.15682.
    Differs from the paper: follows its authors' package schedulefree 1.4, whose decay acts at y. With match="keras"
    all steps weigh alike and y decays before the step, as on Keras' JAX backend.
    """

    learning_rate = rate(2.5e-3)
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root")
    matches = {"keras": {"eps": 1e-8, "weight_lr_power": 0.0, "decay": "before"}}

    def coefficients(self, math, t):
        return self.averaging(t, self.warmed_up(math, t)) | squares(self, math, t)

    def update(self, xp, p, g, z: BASE_SEQUENCE, exp_avg_sq: NONNEGATIVE, steps_averaged: WEIGHT,
               weight_max: WEIGHT, /,
               lr, gain, inverse, eps, inner_decay, beta1, weight, older, alike, zero, one):  # fmt: skip
        exp_avg_sq = ema(exp_avg_sq, g * g, gain)
        u = lr * (g / (xp.sqrt(exp_avg_sq * inverse) + eps) + inner_decay * p)
        weights = steps_averaged, weight_max, beta1, weight, older, alike, zero, one
        u, z, *weights = averaged(xp, p, u, z, *weights)
        return u, z, exp_avg_sq, *weights
