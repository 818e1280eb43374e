"""Stochastic gradient descent with momentum, dampening and Nesterov's look-ahead."""

from ..fields import finite, flag, fraction
from ..formulas import heavy_ball, places
from ..rule import Rule
from ..slots import slot


class SGD(Rule, decay="l2", time_dependence="first", sparse="exact"):
    """Gradient descent, with heavy-ball or Nesterov momentum.

    g = g + weight_decay * p
    b = momentum * b + (1 - dampening) * g        (b = g at the first step)
    p = p - lr * (g + momentum * b if nesterov else b)

    Paper: Polyak 1964; Sutskever, Martens, Dahl, Hinton, ICML 2013 (Nesterov).
    Differs from the paper: the learning rate multiplies the buffer, not the gradient in it, as in PyTorch.
    """

    momentum = fraction(0.0, "weight of the past in the buffer; 0 keeps no buffer", structural=True)
    dampening = finite(0.0, "part of each gradient that the buffer leaves out")
    nesterov = flag(False, "look ahead along the buffer; needs momentum and no dampening")
    matches = {"torch": {}, "optax": {}, "keras": {"learning_rate": 1e-2}}

    def coefficients(self, math, t):
        # A momentum of 0 that is traced has a buffer all the same: it holds the gradient, as if there were none.
        kept = math.where(self.momentum == 0, 1.0, 1.0 - self.dampening)
        return {**places(self), "gain": math.where(t == 1, 1.0, kept)}

    def update(self, xp, p, g, momentum_buffer: slot("momentum"), /, momentum, gain, inside, lr):
        g = inside * g
        b = g if momentum_buffer is None else heavy_ball(momentum_buffer, momentum, gain * g)
        return lr * (heavy_ball(b, momentum, g) if self.nesterov else b), b
