"""Gradient descent with the step length of Polyak."""

from math import inf

from ..fields import choice, finite, nonnegative, positive, rate
from ..rule import Rule


class PolyakSGD(Rule, time_dependence="none"):
    """Gradient descent as far as the loss, if it were linear, would be at its minimum; leave learning_rate at 1.

    gap = loss - f_min                                            (variant="sps+": at least 0)
    p = p - lr * min(gap / (|g|^2 + eps), max_step_size) * g  (the norm is over all parameters)

    Each step is given the loss of which g is the gradient. f_min has to be known: where it is above what the loss
    comes to, steps lead uphill, but with "sps+"; where it is below the minimum, they do not get shorter at the end.

    Paper: Polyak 1964; Loizou, Vaswani, Laradji, Lacoste-Julien 2020, arXiv 2002.10542; "sps+": Garrigos, Gower,
    Schaipp 2023, arXiv 2307.14528.
    Differs from the paper: its 1 / c is the learning rate, of the bound as well. No step is taken while |g|^2 + eps is
    at most 2^-52, as in optax.
    """

    learning_rate = rate(1.0)
    max_step_size = positive(1.0, "most that multiplies a gradient, besides lr")
    f_min = finite(0.0, "the least value of the loss, or a guess")
    eps = nonnegative(0.0, "added to the squared norm")
    variant = choice("sps", "what becomes of a loss below f_min", "sps", "sps+")
    #: Whether the norm is that of gradients times the learning rate, as optax has it, whatever its docstring says.
    scaled_norm = False
    #: optax's norm is of moduli too, and a sum of squares is the same of parts.
    matches = {"optax": {"scaled_norm": True}}

    def coefficients(self, math, t):
        square = self.learning_rate * self.learning_rate
        least = 0.0 if self.variant == "sps+" else -inf
        return {"weight": square if self.scaled_norm else 1.0, "least": least, "tiny": 2.0**-52}

    def update(self, xp, p, g, /, value, learning_rate, weight, f_min, least, max_step_size, eps, tiny, zero, one):
        norm = weight * xp.total(g * g) + eps
        gap = xp.maximum(value - f_min, least)
        length = xp.minimum(gap / xp.where(norm <= tiny, one, norm), max_step_size)
        return learning_rate * xp.where(norm <= tiny, zero, length) * g
