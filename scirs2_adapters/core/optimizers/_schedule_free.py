"""What schedule-free rules share: the average that takes the place of a schedule, and how it is had back."""

from types import SimpleNamespace

from ..fields import Declared, count, is_number, nonnegative, number
from ..formulas import one_minus_power, ramp
from ..ops import Array, Scalar
from ..rule import Rule
from ..slots import Leaf, scalar, slot

#: The parameter that plain steps are taken from, at first the parameter itself. The average is made of it.
BASE_SEQUENCE = slot(initial="parameter", block_dtype=None)
#: A number that steps which weigh differently need.
WEIGHT = scalar(0.0, "weighted")


def interpolation() -> Declared:
    """How far y is from z towards x."""
    return number(0.9, "how far y is from z towards x", "must be above 0 and below 1", lambda v: 0 < v < 1)


class Interpolated(Rule):
    """A rule that trains at y, between the average x of its steps and the last of them, z."""

    beta1 = interpolation()


class WarmedUp(Interpolated):
    """A rule with a warm-up."""

    warmup_steps = count(0, "steps in which the learning rate grows to its full size", least=0)

    def warmed_up(self, math: SimpleNamespace, t: Scalar) -> Scalar:
        """The learning rate of step `t`."""
        return self.learning_rate * ramp(math, t, self.warmup_steps)


class Averaged(Interpolated):
    """A rule whose steps weigh in the average by their number and the largest learning rate so far."""

    r = nonnegative(0.0, "power with which later steps weigh more in the average")
    weight_lr_power = nonnegative(2.0, "power of the largest learning rate so far with which a step weighs")

    def weighted(self, leaf: Leaf) -> bool:
        """Whether steps weigh differently in the average; alike, they need not be summed."""
        return weighted(self)

    def averaging(self, t: Scalar, lr: Scalar) -> dict[str, Scalar]:
        """The learning rate of this step, its weight, and what the weights before it count now."""
        decay = self.weight_decay if self.decay == "inside" else 0.0
        return {"lr": lr, "inner_decay": decay, "outward": 1 - 1 / self.beta1, **weights(self, t, lr)}

    def evaluation(self, xp: Array, p: Array, z: BASE_SEQUENCE, /, outward: Array) -> Array:  # type: ignore[valid-type]
        """The average x."""
        return p + outward * (z - p)


def weighted(rule):
    """Whether the steps of a rule with `r` and `weight_lr_power` weigh differently."""
    return not all(is_number(x) and x == 0 for x in (rule.r, rule.weight_lr_power))


def weights(rule, t, lr):
    """The weight of a step, what the weights before it count now, and its share where all weigh alike."""
    return {"weight": lr**rule.weight_lr_power, "older": ((t - 1) / t) ** rule.r, "alike": 1 / t}


def squares(rule, math, t):
    """What moves a mean of squares, and what corrects it."""
    return {"gain": 1 - rule.beta2, "inverse": 1 / one_minus_power(math, rule.beta2, t)}


def averaged(
    xp: Array, p: Array, u: Array, z: Array, steps: Array, heaviest: Array, /, beta1: Array, *weights: Array
) -> tuple[Array, Array, Array, Array]:
    """What to subtract from y where z moves by u; the new z, and the new sum and largest of weights, which are given as
    to `share_of_step`.
    """
    share, steps, heaviest = share_of_step(xp, steps, heaviest, *weights)
    one = weights[-1]
    return share * (p - z) + (one - beta1 * (one - share)) * u, z - u, steps, heaviest


def share_of_step(
    xp: Array, steps: Array, heaviest: Array, weight: Array, older: Array, alike: Array, zero: Array, one: Array
) -> tuple[Array, Array, Array]:
    """The part that a step has in the average; how many of its weight all steps so far are; the largest power of a
    learning rate. Where steps are `alike` the last two are not kept.

    A sum of the weights themselves would be rounded more with each step.
    """
    if steps is None:
        return alike, None, None
    largest = xp.maximum(heaviest, weight)
    steps = older * steps * (heaviest / xp.where(largest > zero, largest, one)) + one
    return one / steps, steps, largest
