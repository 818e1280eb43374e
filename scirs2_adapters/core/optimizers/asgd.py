"""ASGD."""

from ..fields import finite, nonnegative, rate
from ..formulas import ema
from ..rule import Rule
from ..slots import scalar, slot


class ASGD(Rule, decay="l2"):
    """Gradient descent with a falling step size, beside which the average of the parameters is kept.

    p = p - eta * (lambd * p + g)                 (g includes weight_decay * p)
    ax = ax + mu * (p - ax)
    eta = lr / (1 + lambd * lr * t)^alpha;   mu = 1 / max(1, t - t0)       (for the next step; lr and 1 at first)

    Paper: Polyak, Juditsky 1992; the step sizes: Bottou 2010.
    Differs from the paper: nothing. The average is in the memory; it is not put into the model.
    """

    learning_rate = rate(1e-2)
    lambd = nonnegative(1e-4, "decay of the parameter, which the step size falls with")
    alpha = finite(0.75, "power with which the step size falls")
    t0 = finite(1e6, "step after which more than the last parameter is averaged")
    matches = {"torch": {}}

    def coefficients(self, math, t):
        now, then = (self.learning_rate / (1 + self.lambd * self.learning_rate * n) ** self.alpha for n in (t - 1, t))
        return {"now": now, "then": then, "mu_then": 1 / math.maximum(1.0, t - self.t0)}

    def update(self, xp, p, g, eta: scalar(), mu: scalar(1.0), ax: slot(block_dtype=None), /,
               now, then, mu_then, lambd, zero, one):  # fmt: skip
        eta = xp.where(eta > zero, eta, now)  # made when lr was 0, it would hold the first step back
        u = eta * (lambd * p + g)
        ax = xp.where(mu < one, ema(ax, p - u, mu), p - u)
        return u, then + zero * eta, mu_then + zero * mu, ax  # an array's new value is an array on every path
