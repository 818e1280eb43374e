"""What Momo and its Adam share: the model of the loss along the step, and how far it may be followed."""

from ..fields import finite, flag, rate
from ..ops import Array
from ..rule import Rule
from ..slots import model

#: At this square of a norm, or below, there is no direction to step in, as in optax.
TINY = 2.0**-52


class ModelBased(Rule, decay="inside"):
    """Fields and coefficients of a rule that steps by a model of the loss."""

    learning_rate = rate(1.0)
    lower_bound = finite(0.0, "the least value that the loss may have; 0 suits most")
    adapt_lower_bound = flag(False, "estimate the lower bound on the way, from this one upwards", structural=False)
    #: Whether a proximal step divides the gradient's part of it, too, by 1 + lr * weight_decay.
    shrinks_step = True

    def model_coefficients(self, correction):
        """The scalars of `along`; averages are divided by `correction` to be those of what was averaged."""
        grown = 1 + self.learning_rate * self.weight_decay
        return {
            "grown": grown,
            "shrink": self.learning_rate * self.weight_decay / grown,
            "divisor": grown if self.shrinks_step else 1.0,
            "most": self.learning_rate / correction,
            "correction": correction,
            "half": 0.5,
            "tiny": TINY,
        }


LOWER_BOUND = model("lower_bound")


def along(
    xp: Array, adapts: bool, barf: Array, gamma: Array, lb: Array, reach: Array, norm: Array, lower_bound: Array,
    grown: Array, most: Array, correction: Array, half: Array, tiny: Array, zero: Array, one: Array,
):  # fmt: skip
    """How far to go along a direction. `reach` is its inner product with the parameters and `norm` the one
    with the gradient's mean; and the lower bound, a new one if it `adapts`.
    """
    above, weight = grown * (barf - gamma) + reach, grown * correction
    if adapts:
        lb = xp.where(above < weight * lb, xp.maximum(half * above / weight, lower_bound), lb)
    still = norm <= tiny
    wanted = xp.maximum(above - weight * lb, zero) / xp.where(still, one, norm)
    tau = xp.minimum(xp.where(still, zero, wanted), most)
    if adapts:
        lb = xp.maximum((barf + reach - gamma - half * tau * norm) / correction, lower_bound)
    return tau, one * lb
