"""What RMSprop in all its forms takes, and the numbers that follow from it."""

from ..fields import flag, fraction, nonnegative, rate
from ..formulas import ema, one_minus_power, places
from ..rule import Rule


class MeanSquare(Rule):
    """Fields of a rule that divides by a running root mean square."""

    learning_rate = rate(1e-2)
    rho = fraction(0.99, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root")
    momentum = fraction(0.0, "weight of the past in the buffer; 0 keeps no buffer", structural=True)
    nesterov = flag(False, "look ahead along the buffer")
    centered = flag(False, "divide by the standard deviation instead of the root mean square")
    eps_in_sqrt = flag(False, "add eps under the root instead")
    initial_scale = nonnegative(0.0, "first value of the mean of squared gradients")
    #: Of no slot; and the first centered variance is then 0 but for rounding, which is nothing to hold a path to.
    bias_correction = flag(False, "divide the means by 1 - rho^t, as Adam does", structural=False)

    @property
    def eps_place(self):
        return "inside" if self.eps_in_sqrt else "outside"

    def coefficients(self, math, t):
        inv_bias_correction = 1 / one_minus_power(math, self.rho, t) if self.bias_correction else 1.0
        return {**places(self), "gain": 1 - self.rho, "inv_bias_correction": inv_bias_correction}

    def variance(self, xp, g, square_avg, grad_avg, gain, inv_bias_correction, zero):
        """The running mean square, less the square of the running mean where there is one; and both means, which
        `inv_bias_correction` corrects if the rule asks for that.

        What rounding makes negative counts as 0: its root would be NaN, and a constant gradient is enough for that.
        """
        square = square_avg = ema(square_avg, g * g, gain)
        mean = grad_avg = None if grad_avg is None else ema(grad_avg, g, gain)
        if self.bias_correction:
            square = inv_bias_correction * square_avg
            mean = None if grad_avg is None else inv_bias_correction * grad_avg
        return square if mean is None else xp.maximum(square - mean * mean, zero), square_avg, grad_avg
