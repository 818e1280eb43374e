"""What FTRL takes."""

from ..fields import nonnegative, nonpositive
from ..rule import Rule


class Regularized(Rule):
    """Fields of a rule that follows the regularized leader, as Keras names them."""

    learning_rate_power = nonpositive(-0.5, "exponent with which sums of squares slow the learning", static=True)
    initial_accumulator_value = nonnegative(0.1, "first value of the sums of squares")
    l1_regularization_strength = nonnegative(0.0, "penalty of absolute values, which keeps parameters at 0")
    l2_regularization_strength = nonnegative(0.0, "penalty of squares, which keeps parameters near 0")
    l2_shrinkage_regularization_strength = nonnegative(0.0, "penalty of squares in the gradient")
    beta = nonnegative(0.0, "added to the root of the sums of squares")
