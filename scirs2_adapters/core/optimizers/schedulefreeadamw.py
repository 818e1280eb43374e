"""Schedule-Free AdamW."""

from ..fields import fraction, nonnegative, rate
from ..formulas import ema, one_minus_power
from ..slots import NONNEGATIVE, scalar
from ._schedule_free import BASE_SEQUENCE, ScheduleFree, share_of_step


class ScheduleFreeAdamW(ScheduleFree, decay="inside"):
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
        corrected = {"gain": 1 - self.beta2, "inverse": 1 / one_minus_power(math, self.beta2, t)}
        return self.averaging(math, t) | corrected

    def update(self, xp, p, g, z: BASE_SEQUENCE, exp_avg_sq: NONNEGATIVE, steps_averaged: scalar(0.0, "weighted"),
               weight_max: scalar(0.0, "weighted"), /,
               lr, gain, inverse, eps, inner_decay, beta1, weight, older, alike, zero, one):  # fmt: skip
        exp_avg_sq = ema(exp_avg_sq, g * g, gain)
        u = lr * (g / (xp.sqrt(exp_avg_sq * inverse) + eps) + inner_decay * p)
        share, steps, largest = share_of_step(xp, steps_averaged, weight_max, weight, older, alike, zero, one)
        return share * (p - z) + (one - beta1 * (one - share)) * u, z - u, exp_avg_sq, steps, largest
