"""Stochastic gradient descent with momentum, dampening and Nesterov's look-ahead."""

from ..fields import finite, flag, fraction
from ..formulas import lr_places
from ..rule import Rule
from ..slots import slot


class SGD(Rule):
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
    decay, counts, lr_in_buffer = "l2", "first", False
    matches = {"torch": {}, "optax": {}, "keras": {"learning_rate": 1e-2, "decay": "decoupled", "lr_in_buffer": True}}

    def coefficients(self, xp, t):
        inside, outside = lr_places(self)
        return {"mu": self.momentum, "gain": xp.where(t == 1, 1.0, 1.0 - self.dampening), "inside": inside, "lr": outside}

    def update(self, xp, p, g, momentum_buffer: slot("momentum"), /, mu, gain, inside, lr):
        if momentum_buffer is None:
            return lr * (inside * g), None
        momentum_buffer = mu * momentum_buffer + gain * (inside * g)
        return lr * (inside * g + mu * momentum_buffer if self.nesterov else momentum_buffer), momentum_buffer
