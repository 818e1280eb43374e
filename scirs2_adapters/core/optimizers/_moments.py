"""What descendants of Adam share: fields, look-ahead, growing momentum, how far a running mean can be trusted."""

import math
from types import SimpleNamespace

from ..fields import flag, fraction, nonnegative
from ..formulas import adam_coefficients, log_of, one_minus_power, ramp
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
    scalars = adam_coefficients(rule, math, t)
    if not rule.nesterov:
        return scalars | {"grad_step_size": 0.0}
    ahead = rule.learning_rate * rule.beta1 / one_minus_power(math, rule.beta1, t + 1)
    return scalars | {"step_size": ahead, "grad_step_size": scalars["one_minus_beta1"] * scalars["step_size"]}


def adam_direction(rule: Rule, m: Array, g: Array, step_size: Array, grad_step_size: Array) -> Array:
    """The corrected mean times the learning rate; with Nesterov's look-ahead, that of the next step as far as known."""
    return step_size * m + grad_step_size * g if rule.nesterov else step_size * m


def growing_momentum(rule, scalar_math, t):
    """NAdam's momentum c at step t and the next, 1 - c, and the product k of all so far if it is beta1 throughout, or
    `late`, about what it is where a first gradient comes late and nobody has multiplied.
    """
    c, c_next = (rule.beta1 * (1 - scalar_math.exp(n * (rule.momentum_decay * math.log(0.96))) / 2) for n in (t, t + 1))
    k = 1 - one_minus_power(scalar_math, rule.beta1, t)
    return {"c": c, "c_next": c_next, "rest": 1 - c, "k": k, "late": c**t}


def slow_average(rule, scalar_math, t):
    """AdEMAMix's weight of the slow mean times the learning rate, and what that mean takes of a gradient, at step t."""
    first, last = (-1 / log_of(scalar_math, beta) for beta in (rule.beta1, rule.beta3))  # half-lives, but for a factor
    life = first + ramp(scalar_math, t, rule.t_beta3) * (last - first)
    weight = rule.alpha * ramp(scalar_math, t, rule.t_alpha)
    return {
        "slow_step_size": rule.learning_rate * weight,
        "one_minus_beta3": -scalar_math.expm1(
            -1 / scalar_math.maximum(life, 1e-3)
        ),  # of less than that nothing is left
    }


def difference_coefficients(rule, scalar_math, t):
    """The scalars of Adan's means of gradients, of differences and of squares, and of its decay."""
    scalars, inside = adam_coefficients(rule, scalar_math, t), rule.decay == "inside"
    weight = scalars["one_minus_beta2"] if rule.weighs_rest else rule.beta2
    shrink = rule.learning_rate * rule.weight_decay if inside else 0.0
    kept = 1 / (1 + shrink)  # of the parameter and of the step
    return scalars | {
        "later": scalar_math.where(t > 1, 1.0, 0.0),
        "weight": weight,
        "step_size": kept * scalars["step_size"],
        "diff_rate": kept * rule.learning_rate * weight * scalars["inv_bias_correction2"],
        "one_minus_beta3": 1 - rule.beta3,
        "scale3": 1 / one_minus_power(scalar_math, rule.beta3, t),
        "shrink": kept * shrink,
    }


def rectifier(scalar_math, beta, t, threshold):
    """RAdam's r at step t, or 0 where the running mean stands for no more than `threshold` gradients.

    That number is at first a small difference of large ones, which float32, under a trace, cannot hold: a series then.
    """
    rate = -log_of(scalar_math, beta)
    new, most = one_minus_power(scalar_math, beta, t), 2 / (1 - beta) - 1
    early = t - (_head((t * rate) ** 2) - _head(rate**2)) / rate
    many = scalar_math.where(t * rate < _EARLY, early, most - 2 * t * (1 - new) / new)
    k = scalar_math.maximum(many, threshold)
    most = scalar_math.where(most > threshold, most, threshold + 1)  # else k is never above it, and this is not used
    return scalar_math.where(
        many > threshold, scalar_math.sqrt((k - 4) * (k - 2) * most / ((most - 4) * (most - 2) * k)), 0.0
    )


def _head(y):
    return y / 6 * (1 - y / 60 * (1 - y / 42 * (1 - y / 40)))
