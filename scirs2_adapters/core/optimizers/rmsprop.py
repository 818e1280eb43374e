"""RMSprop, centered or not, with or without momentum."""

from ..formulas import heavy_ball
from ..slots import slot
from ._squares import MeanSquare


class RMSprop(MeanSquare, decay="l2"):
    """Gradients divided by the root of their running mean square.

    v = v + (1 - rho) * (g * g - v)               (g includes weight_decay * p)
    a = a + (1 - rho) * (g - a)                   (centered: v - a * a is used below)
    u = g / (sqrt(v) + eps)                       (eps_in_sqrt: g / sqrt(v + eps))
    b = momentum * b + u
    p = p - lr * (u + momentum * b if nesterov else b)

    Paper: Tieleman, Hinton 2012, Coursera lecture 6e; centered: Graves 2013, arXiv 1308.0850.
    Differs from the paper: a centered variance that rounding makes negative counts as 0, where other implementations
    give NaN.
    """

    others = {"rho": 0.9, "eps_in_sqrt": True}
    matches = {"torch": {}, "optax": others | {"lr_in_buffer": True}, "keras": others | {"learning_rate": 1e-3}}

    def update(self, xp, p, g, square_avg: slot(None, "initial_scale", "uint8", wide_if="centered"),
               momentum_buffer: slot("momentum"), grad_avg: slot("centered", block_dtype=None), /,
               gain, inv_bias_correction, root, eps, momentum, inside, lr, zero):  # fmt: skip
        v, square_avg, grad_avg = self.variance(xp, g, square_avg, grad_avg, gain, inv_bias_correction, zero)
        u = inside * g / (xp.sqrt(v + root) + eps)
        b = heavy_ball(momentum_buffer, momentum, u)
        ahead = self.nesterov and momentum_buffer is not None
        return lr * (heavy_ball(b, momentum, u) if ahead else b), square_avg, b, grad_avg
