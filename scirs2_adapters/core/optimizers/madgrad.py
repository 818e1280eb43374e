"""MADGRAD."""

from ..fields import fraction, nonnegative, rate
from ..rule import Rule
from ..slots import NONNEGATIVE, slot


class MADGRAD(Rule, decay="l2"):
    """Dual averaging: steps lead from the first parameters along all gradients so far, over a cube root of squares.

    k = (lr + eps) * sqrt(t)                      (0 where lr is 0; g includes weight_decay * p)
    s = s + k * g;   v = v + k * g * g
    p = p + (1 - momentum) * (p0 - s / (cbrt(v) + eps) - p)                (p0 is the first parameter)

    Paper: Defazio, Jelassi 2021, arXiv 2101.11075.
    Differs from the paper: eps is added to the learning rate too, as in its authors' package and optax.
    """

    learning_rate = rate(1e-2)
    momentum = fraction(0.9, "how much of the parameter stays where it is")
    eps = nonnegative(1e-6, "added to the cube root and to the learning rate")
    #: optax takes no cube root of complex numbers.
    matches = {"optax": {"moduli": None}}

    def coefficients(self, math, t):
        lr = math.where(self.learning_rate > 0, self.learning_rate + self.eps, 0.0)
        return {"weight": lr * math.sqrt(t), "third": 1 / 3, "gain": 1 - self.momentum}

    def update(self, xp, p, g, grad_sum_sq: NONNEGATIVE, s: slot(block_dtype=None),
               x0: slot(initial="parameter", block_dtype=None), /, weight, third, gain, eps, zero, one):  # fmt: skip
        grad_sum_sq, s = grad_sum_sq + weight * (g * g), s + weight * g
        root = xp.power(grad_sum_sq, third) + eps
        return gain * (p - x0 + s / xp.where(root <= zero, one, root)), grad_sum_sq, s, x0
