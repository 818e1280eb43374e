"""What schedule-free rules share: the average that takes the place of a schedule, and how it is had back."""

from types import SimpleNamespace

from ..fields import count, is_number, nonnegative, number
from ..formulas import ramp
from ..ops import Array, Scalar
from ..rule import Rule
from ..slots import Leaf, slot

#: The parameter that plain steps are taken from, at first the parameter itself. The average is made of it.
BASE_SEQUENCE = slot(initial="parameter", block_dtype=None)


class ScheduleFree(Rule):
    """A rule that trains at y, between the average x of its steps and the last of them, z."""

    beta1 = number(0.9, "how far y is from z towards x", "must be above 0 and below 1", lambda v: 0 < v < 1)
    warmup_steps = count(0, "steps in which the learning rate grows to its full size", least=0)
    r = nonnegative(0.0, "power with which later steps weigh more in the average")
    weight_lr_power = nonnegative(2.0, "power of the largest learning rate so far with which a step weighs")

    def weighted(self, leaf: Leaf) -> bool:
        """Whether steps weigh differently in the average; alike, they need not be summed."""
        return not (is_number(self.r) and self.r == 0 and is_number(self.weight_lr_power) and self.weight_lr_power == 0)

    def averaging(self, math: SimpleNamespace, t: Scalar) -> dict[str, Scalar]:
        """The learning rate of this step, its weight, and what the weights before it count now."""
        lr = self.learning_rate * ramp(math, t, self.warmup_steps)
        weights = {"weight": lr**self.weight_lr_power, "older": ((t - 1) / t) ** self.r, "alike": 1 / t}
        decay = self.weight_decay if self.decay == "inside" else 0.0
        return {"lr": lr, "inner_decay": decay, "outward": 1 - 1 / self.beta1, **weights}

    def evaluation(self, xp: Array, p: Array, z: BASE_SEQUENCE, /, outward: Array) -> Array:  # type: ignore[valid-type]
        """The average x."""
        return p + outward * (z - p)


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
