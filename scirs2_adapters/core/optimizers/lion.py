"""Lion."""

from ..fields import fraction, rate
from ..formulas import ema
from ..match import OptaxState
from ..rule import Rule


class Lion(Rule, time_dependence="none"):
    """The sign of an interpolated momentum: every element moves by lr. One slot, half of Adam's memory.

    u = sign(m + (1 - beta1) * (g - m))
    m = m + (1 - beta2) * (g - m)
    p = p - (lr * weight_decay * p + lr * u)

    Paper: Chen et al. 2023, arXiv 2302.06675.
    Differs from the paper: nothing. Its authors advise a learning rate 3 to 10 times smaller, and a decay larger, than
    AdamW's.
    """

    learning_rate = rate(1e-4)
    beta1 = fraction(0.9, "weight of the momentum in the direction")
    beta2 = fraction(0.99, "decay rate of the momentum")
    matches = {"optax": {"weight_decay": 1e-3}, "keras": {"learning_rate": 1e-3}}
    optax_state = OptaxState("ScaleByLionState", {"count": "count", "mu": "exp_avg"}, decays="after")

    def coefficients(self, math, t):
        return {"one_minus_beta1": 1 - self.beta1, "one_minus_beta2": 1 - self.beta2}

    def update(self, xp, p, g, exp_avg, /, learning_rate, one_minus_beta1, one_minus_beta2):
        return learning_rate * xp.sign(ema(exp_avg, g, one_minus_beta1)), ema(exp_avg, g, one_minus_beta2)
