"""Optimistic gradient descent."""

from ..fields import finite
from ..rule import Rule


class OptimisticGradientDescent(Rule, time_dependence="first"):
    """Gradient descent that expects the next change of the gradient to be the last one: for games, which it calms.

    p = p - lr * (alpha * g + beta * (g - g'))    (g' is the last g; g itself at the first step)

    Paper: Mokhtari, Ozdaglar, Pattathil 2019, arXiv 1901.08511.
    Differs from the paper: the first step has no last gradient, as in optax; there both of the first points are given.
    """

    alpha = finite(1.0, "weight of the gradient")
    beta = finite(1.0, "weight of its change")
    matches = {"optax": {}}

    def coefficients(self, math, t):
        beta = math.where(t == 1, 0.0, self.beta)
        return {"ahead": self.learning_rate * (self.alpha + beta), "back": self.learning_rate * beta}

    def update(self, xp, p, g, previous_grad, /, ahead, back):
        return ahead * g - back * previous_grad, g
