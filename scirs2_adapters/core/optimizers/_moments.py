"""What descendants of Adam share: fields, a growing momentum, and how far a running mean can be trusted."""

import math

from ..fields import flag, fraction, is_number, nonnegative
from ..formulas import one_minus_power
from ..rule import Rule

#: Where the series takes over, whose first term left out is then 1e-13 of the number.
_EARLY = 0.25


class Moments(Rule):
    """Fields of a rule with two moments, one of which says where weight decay acts, as PyTorch has it."""

    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root; bounds the step where gradients vanish")
    eps_root = nonnegative(0.0, "added under the root")
    decoupled_weight_decay = flag(False, "weight decay acts on the parameter and not on the moments")

    @property
    def decay(self):
        return "decoupled" if self.decoupled_weight_decay else "l2"


def growing_momentum(rule, scalar_math, t):
    """NAdam's momentum c at step t and the next, 1 - c, and the product k of all so far if it is beta1 throughout."""
    c, c_next = (rule.beta1 * (1 - scalar_math.exp(n * (rule.momentum_decay * math.log(0.96))) / 2) for n in (t, t + 1))
    return {"c": c, "c_next": c_next, "rest": 1 - c, "k": 1 - one_minus_power(scalar_math, rule.beta1, t)}


def rectifier(scalar_math, beta, t, threshold):
    """RAdam's r at step t, or 0 where the running mean stands for no more than `threshold` gradients.

    That number is at first a small difference of large ones, which float32, under a trace, cannot hold: a series then.
    """
    rate = -(math.log(beta) if beta > 0 else -math.inf) if is_number(beta) else -scalar_math.log(beta)
    new, most = one_minus_power(scalar_math, beta, t), 2 / (1 - beta) - 1
    early = t - (_head((t * rate) ** 2) - _head(rate**2)) / rate
    many = scalar_math.where(t * rate < _EARLY, early, most - 2 * t * (1 - new) / new)
    k, most = scalar_math.maximum(many, threshold), scalar_math.maximum(most, threshold)
    return scalar_math.where(
        many > threshold, scalar_math.sqrt((k - 4) * (k - 2) * most / ((most - 4) * (most - 2) * k)), 0.0
    )


def _head(y):
    return y / 6 * (1 - y / 60 * (1 - y / 42 * (1 - y / 40)))
