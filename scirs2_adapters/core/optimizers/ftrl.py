"""FTRL."""

from ..formulas import power
from ..slots import slot
from ._ftrl_fields import Regularized


class Ftrl(Regularized, decay="l2", time_dependence="none"):
    """Follow the regularized leader: each step makes the parameter anew from the sum of all gradients, and l1 keeps it
    at 0 exactly where that sum is small.

    n = n + g * g                                 (initial_accumulator_value at first; g includes weight_decay * p)
    z = z + g + 2 * l2_shrinkage * p - (n^k - (n before)^k) / lr * p                (k is -learning_rate_power)
    p = (clip(z, -l1, l1) - z) / ((n^k + beta) / lr + 2 * l2)

    A step whose learning rate is 0 changes nothing, nor does a gradient of 0 where n is 0.

    Paper: McMahan et al. 2013, KDD.
    Differs from the paper: l2 counts twice and n begins at 0.1, as in TensorFlow and Keras. A first value above 0 draws
    the first parameters towards 0, and all the way where their first gradient is 0.
    """

    matches = {"keras": {"decay": "before"}}

    def coefficients(self, math, t):
        lr, on = self.learning_rate, math.where(self.learning_rate > 0, 1.0, 0.0)
        inv, shrinkage = 1 / math.where(lr > 0, lr, float("inf")), 2 * on * self.l2_shrinkage_regularization_strength
        l1, rest = self.l1_regularization_strength, 2 * on * self.l2_regularization_strength + self.beta * inv
        return {"on": on, "inv": inv, "rest": rest, "l1": l1, "shrinkage": shrinkage, "k": -self.learning_rate_power}

    def update(self, xp, p, g, accumulator: slot(initial="initial_accumulator_value", block_dtype=None),
               linear: slot(block_dtype=None), /, on, inv, rest, shrinkage, k, l1, zero, one):  # fmt: skip
        n = accumulator + on * (g * g)
        root = power(xp, n, k, -self.learning_rate_power)
        grown = root - power(xp, accumulator, k, -self.learning_rate_power)
        linear = linear + (on * g + shrinkage * p) - grown * inv * p
        kept, slope = xp.minimum(xp.maximum(linear, -l1), l1), root * inv + rest
        divisor = xp.where(slope <= zero, one, slope)
        return xp.where(slope <= zero, zero, p - (kept - linear) / divisor), n, linear
