"""Signum."""

from ..fields import fraction, rate
from ..formulas import ema
from ..rule import Rule


class Signum(Rule, time_dependence="none"):
    """The sign of a momentum: every element moves by lr, whatever the size of its gradient.

    m = m + (1 - momentum) * (g - m)
    p = p - (lr * weight_decay * p + lr * sign(m))

    Paper: Bernstein, Wang, Azizzadenesheli, Anandkumar 2018, arXiv 1802.04434.
    Differs from the paper: weight decay is decoupled.
    """

    learning_rate = rate(1e-4)
    momentum = fraction(0.9, "decay rate of the mean of gradients")
    matches = {"optax": {}}

    def coefficients(self, math, t):
        return {"gain": 1 - self.momentum}

    def update(self, xp, p, g, exp_avg, /, learning_rate, gain):
        exp_avg = ema(exp_avg, g, gain)
        return learning_rate * xp.sign(exp_avg), exp_avg
