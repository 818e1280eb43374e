"""What optimizers that learn a distance d share: how far it may grow in a step, and a quotient that may not be there
yet.
"""

from math import inf

from ..fields import number, positive, rate
from ..ops import Array
from ..rule import Rule


class DAdapted(Rule):
    """Fields of a rule that finds its own learning rate by D-Adaptation."""

    learning_rate = rate(1.0)
    d0 = positive(1e-6, "first estimate of the distance")
    growth_rate = number(inf, "largest growth of d in one step", "must be a number >= 1", lambda v: v >= 1)

    def growth(self, math):
        """The two scalars of `grown`."""
        limited = self.growth_rate < inf  # infinity times 0 would be the derivative
        return {"limited": math.where(limited, 1.0, 0.0), "growth": math.where(limited, self.growth_rate, 1.0)}


def grown(xp: Array, d: Array, above: Array, below: Array, limited: Array, growth: Array, zero: Array, one: Array):
    """The new d: the quotient, if that is larger, but never more than `growth` times d; d where `below` is 0."""
    estimate = xp.where(below > zero, above / xp.where(below > zero, below, one), d)
    most = xp.where(limited > zero, xp.minimum(estimate, d * growth), estimate)
    return xp.maximum(d, most)
