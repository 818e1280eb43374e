"""RMSprop, centered or not, with or without momentum."""

from ..fields import flag, fraction, nonnegative, rate
from ..formulas import average, lr_places
from ..rule import Rule
from ..slots import slot


class RMSprop(Rule):
    """Gradients divided by the root of their running mean square.

    v = v + (1 - rho) * (g * g - v)               (g includes weight_decay * p)
    a = a + (1 - rho) * (g - a)                   (centered: v - a * a is used below)
    b = momentum * b + g / (sqrt(v) + eps)
    p = p - lr * b

    Paper: Tieleman, Hinton 2012, Coursera lecture 6e; centered: Graves 2013, arXiv 1308.0850.
    Differs from the paper: a centered variance that rounding makes negative counts as 0, where other implementations give NaN.
    """

    learning_rate = rate(1e-2)
    rho = fraction(0.99, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root")
    momentum = fraction(0.0, "weight of the past in the buffer; 0 keeps no buffer", structural=True)
    centered = flag(False, "divide by the standard deviation instead of the root mean square")
    decay, eps_place, lr_in_buffer = "l2", "outside", False
    matches = {
        "torch": {},
        "optax": {"rho": 0.9, "eps_place": "inside", "lr_in_buffer": True},
        "keras": {"rho": 0.9, "eps": 1e-7, "learning_rate": 1e-3, "eps_place": "inside", "lr_in_buffer": True, "decay": "decoupled"},
    }

    def coefficients(self, xp, t):
        (inside, lr), (root, eps) = lr_places(self), (self.eps, 0.0) if self.eps_place == "inside" else (0.0, self.eps)
        return {"gain": 1 - self.rho, "root": root, "eps": eps, "mu": self.momentum, "inside": inside, "lr": lr}

    def update(
        self, xp, p, g, square_avg, momentum_buffer: slot("momentum"), grad_avg: slot("centered"), /, gain, root, eps, mu, inside, lr, zero
    ):
        v = square_avg = average(square_avg, g * g, gain)
        if self.centered:
            grad_avg = average(grad_avg, g, gain)
            v = xp.maximum(v - grad_avg * grad_avg, zero)
        u = inside * g / (xp.sqrt(v + root) + eps)
        u = u if momentum_buffer is None else mu * momentum_buffer + u
        return lr * u, square_avg, u, grad_avg
