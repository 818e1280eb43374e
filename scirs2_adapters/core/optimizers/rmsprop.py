"""RMSprop, centered or not, with or without momentum."""

from ..fields import flag, fraction, nonnegative, rate
from ..formulas import heavy_ball, places, variance
from ..rule import Rule
from ..slots import slot


class RMSprop(Rule, decay="l2"):
    """Gradients divided by the root of their running mean square.

    v = v + (1 - rho) * (g * g - v)               (g includes weight_decay * p)
    a = a + (1 - rho) * (g - a)                   (centered: v - a * a is used below)
    b = momentum * b + g / (sqrt(v) + eps)
    p = p - lr * b

    Paper: Tieleman, Hinton 2012, Coursera lecture 6e; centered: Graves 2013, arXiv 1308.0850.
    Differs from the paper: a centered variance that rounding makes negative counts as 0, where other implementations
    give NaN.
    """

    learning_rate = rate(1e-2)
    rho = fraction(0.99, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root")
    momentum = fraction(0.0, "weight of the past in the buffer; 0 keeps no buffer", structural=True)
    centered = flag(False, "divide by the standard deviation instead of the root mean square")
    others = {"rho": 0.9, "eps_place": "inside"}
    matches = {"torch": {}, "optax": others | {"lr_in_buffer": True}, "keras": others | {"learning_rate": 1e-3}}

    def coefficients(self, xp, t):
        return {**places(self), "gain": 1 - self.rho}

    def update(self, xp, p, g, square_avg, momentum_buffer: slot("momentum"), grad_avg: slot("centered"), /,
               gain, root, eps, momentum, inside, lr, zero):  # fmt: skip
        v, square_avg, grad_avg = variance(xp, g, square_avg, grad_avg, gain, zero)
        u = heavy_ball(momentum_buffer, momentum, inside * g / (xp.sqrt(v + root) + eps))
        return lr * u, square_avg, u, grad_avg
