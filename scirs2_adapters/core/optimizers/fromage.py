"""Fromage."""

from ..fields import nonnegative, rate
from ..rule import Rule


class Fromage(Rule, time_dependence="none"):
    """Gradient descent whose steps have, tensor by tensor, the length of the parameter times lr; keeps no memory.

    ratio = max(|p|, min_norm) / max(|g|, min_norm)             (1 where a norm is 0)
    p = (p - lr * ratio * g) / sqrt(1 + lr^2)

    Paper: Bernstein, Vahdat, Yue, Liu 2020, arXiv 2002.03432.
    Differs from the paper: nothing; min_norm is optax's.
    """

    learning_rate = rate(1e-2)
    min_norm = nonnegative(0.0, "least norm of a parameter and of a gradient")
    matches = {"optax": {"min_norm": 1e-6}}

    def coefficients(self, math, t):
        square = self.learning_rate * self.learning_rate
        root = math.sqrt(1 + square)
        return {"step_size": self.learning_rate / root, "shrink": square / (root * (1 + root))}  # 1 - 1 / root

    def update(self, xp, p, g, /, step_size, shrink, min_norm, zero, one):
        p_norm, g_norm = xp.maximum(xp.norm(p), min_norm), xp.maximum(xp.norm(g), min_norm)
        divisor = xp.where(g_norm > zero, g_norm, one)
        ratio = xp.where(p_norm > zero, xp.where(g_norm > zero, p_norm / divisor, one), one)
        return shrink * p + step_size * ratio * g
