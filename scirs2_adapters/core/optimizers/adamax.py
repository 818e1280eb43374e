"""Adamax."""

from ..fields import fraction, nonnegative, rate
from ..formulas import ema, one_minus_power, places
from ..match import OptaxState
from ..rule import Rule
from ..slots import NONNEGATIVE


class Adamax(Rule, decay="l2", eps_place="inside"):
    """Adam with a decaying maximum in place of the root mean square: few large gradients bound every step.

    m = m + (1 - beta1) * (g - m)                 (g includes weight_decay * p)
    u = max(beta2 * u, |g| + eps)
    p = p - lr / (1 - beta1^t) * m / u

    Paper: Kingma, Ba 2014, arXiv 1412.6980, algorithm 2.
    Differs from the paper: eps, which it does not have, is inside the maximum; Keras adds it to u instead.
    """

    learning_rate = rate(2e-3)
    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the maximum of gradients")
    eps = nonnegative(1e-8, "least value by which the mean is divided")
    matches = {"torch": {}, "optax": {}, "keras": {"learning_rate": 1e-3, "eps_place": "outside"}}
    optax_state = OptaxState("ScaleByAdamState", {"count": "count", "mu": "exp_avg", "nu": "exp_inf"})

    def coefficients(self, math, t):
        step_size = self.learning_rate / one_minus_power(math, self.beta1, t)
        return {**places(self), "step_size": step_size, "one_minus_beta1": 1 - self.beta1}

    def update(self, xp, p, g, exp_avg, exp_inf: NONNEGATIVE, /, step_size, one_minus_beta1, beta2, root, eps):
        exp_avg, exp_inf = ema(exp_avg, g, one_minus_beta1), xp.maximum(beta2 * exp_inf, xp.abs(g) + root)
        return step_size * exp_avg / (exp_inf + eps), exp_avg, exp_inf
