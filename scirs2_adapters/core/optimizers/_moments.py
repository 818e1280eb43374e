"""What descendants of Adam share: fields, look-ahead, growing momentum, how far a running mean can be trusted."""

import math
from types import SimpleNamespace

from ..fields import flag, fraction, is_number, nonnegative
from ..formulas import adam_coefficients, one_minus_power
from ..ops import Array, Scalar
from ..rule import Rule

#: Where the series takes over, whose first term left out is then 1e-13 of the number.
_EARLY = 0.25


class Moments(Rule):
    """Fields of a rule with two moments."""

    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root; bounds the step where gradients vanish")
    eps_root = nonnegative(0.0, "added under the root")


class DecoupledMoments(Moments):
    """With a field that says where weight decay acts, as PyTorch has it."""

    decoupled_weight_decay = flag(False, "weight decay acts on the parameter and not on the moments")

    @property
    def decay(self):
        return "decoupled" if self.decoupled_weight_decay else "l2"


def ahead_coefficients(rule: Rule, math: SimpleNamespace, t: Scalar) -> dict[str, Scalar]:
    """The scalars of an Adam direction that may look ahead."""
    found = adam_coefficients(rule, math, t)
    if not rule.nesterov:
        return found | {"grad_step_size": 0.0}
    ahead = rule.learning_rate * rule.beta1 / one_minus_power(math, rule.beta1, t + 1)
    return found | {"step_size": ahead, "grad_step_size": found["one_minus_beta1"] * found["step_size"]}


def adam_direction(rule: Rule, m: Array, g: Array, step_size: Array, grad_step_size: Array) -> Array:
    """The corrected mean times the learning rate; with Nesterov's look-ahead, that of the next step as far as known."""
    return step_size * m + grad_step_size * g if rule.nesterov else step_size * m


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
