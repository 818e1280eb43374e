"""Schedule-Free SGD."""

from ..fields import rate
from ._schedule_free import BASE_SEQUENCE, WEIGHT, Averaged, WarmedUp, averaged


class ScheduleFreeSGD(Averaged, WarmedUp, decay="inside"):
    """Gradient descent with an average of all steps in the place of momentum and of a falling learning rate. What is
    trained is y; what is to be evaluated is the average x, which is not stored.

    l = lr * min(1, t / warmup_steps);   w = t^r * (largest l so far)^weight_lr_power;   c = w / (sum of w)
    u = g + weight_decay * y
    y = y + c * (z - y) - l * (1 - beta1 * (1 - c)) * u
    z = z - l * u;   x = y + (1 - 1 / beta1) * (z - y)              (so that y = (1 - beta1) * z + beta1 * x)

    Paper: Defazio et al. 2024, arXiv 2405.15682.
    Differs from the paper: follows its authors' package schedulefree 1.4, which calls beta1 momentum.
    """

    learning_rate = rate(1.0)

    def coefficients(self, math, t):
        return self.averaging(t, self.warmed_up(math, t))

    def update(self, xp, p, g, z: BASE_SEQUENCE, steps_averaged: WEIGHT, weight_max: WEIGHT, /,
               lr, inner_decay, beta1, weight, older, alike, zero, one):  # fmt: skip
        u = lr * (g + inner_decay * p)
        return averaged(xp, p, u, z, steps_averaged, weight_max, beta1, weight, older, alike, zero, one)
