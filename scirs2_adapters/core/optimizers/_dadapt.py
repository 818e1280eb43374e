"""What optimizers that learn a distance d share: how far it may grow in a step, and a quotient that may not be there
yet.
"""

from math import inf

from ..fields import number, positive, rate
from ..formulas import ema
from ..ops import Array
from ..rule import Rule


class DAdapted(Rule):
    """Fields of a rule that finds its own learning rate by D-Adaptation."""

    learning_rate = rate(1.0)
    d0 = positive(1e-6, "first estimate of the distance")
    growth_rate = number(inf, "largest growth of d in one step", "must be a number >= 1", lambda v: v >= 1)
    #: Whether nothing is learned of what stands still, at a learning rate of 0.
    freezes = True


def moving(rule, math):
    """1 where something is learned, else 0."""
    return math.where(rule.learning_rate > 0, 1.0, 0.0) if rule.freezes else 1.0


def growth(rule, math):
    """The two scalars of `grown`."""
    limited = rule.growth_rate < inf  # infinity times 0 would be the derivative
    return {"limited": math.where(limited, 1.0, 0.0), "largest": math.where(limited, rule.growth_rate, 1.0)}


def grown(xp: Array, d: Array, above: Array, below: Array, limited: Array, largest: Array, zero: Array, one: Array):
    """The new d: the quotient, if that is larger, but never more than `largest` times d; d where `below` is 0."""
    estimate = xp.where(below > zero, above / xp.where(below > zero, below, one), d)
    most = xp.where(limited > zero, xp.minimum(estimate, d * largest), estimate)
    return xp.maximum(d, most)


def learned(xp: Array, old: Array, ahead: Array, gain: Array, s_norm: Array, zero: Array) -> Array:
    """The mean of what steps have led ahead; as it was where nothing is learned."""
    return xp.where(s_norm > zero, ema(old, ahead, gain), old)
