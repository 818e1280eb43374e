"""SM3."""

from ..fields import fraction, nonnegative, rate
from ..formulas import ema
from ..rule import Rule
from ..slices import largest, plus_least
from ..slots import slices, slot


class SM3(Rule, time_dependence="none", moduli=None):
    """Adagrad whose sums of squares are bounded by one number for each row and each column: n + m for an n x m matrix.

    v = g * g + min(s of its row, s of its column);   s of a row or a column = max of v in it
    u = g / sqrt(v + eps)                                                                          (0 where v is 0)
    m = m + (1 - momentum) * (u - m)
    p = p - (lr * weight_decay * p + lr * m)

    Tensors of more axes have an s for each slice along each axis, and v is the least of all that an element is in.
    A vector has an s for each element, which is Adagrad's sum of squares.

    Paper: Anil, Gupta, Koren, Singer 2019, arXiv 1901.11150.
    Differs from the paper: eps is added under the root, as in optax; its authors' code has 1e-30 there.
    """

    learning_rate = rate(0.1)
    momentum = fraction(0.9, "decay rate of the mean of steps; 0 keeps no mean", structural=True)
    eps = nonnegative(1e-8, "added under the root")
    matches = {"optax": {"moduli": None}}

    def coefficients(self, math, t):
        return {"gain": 1 - self.momentum}

    def sliced(self, leaf):
        return len(leaf.shape) > 1

    def whole(self, leaf):
        return not self.sliced(leaf)

    def update(self, xp, p, g, accumulator: slices("sliced"), sum: slot("whole", block_dtype=None),
               exp_avg: slot("momentum"), /, learning_rate, gain, eps, zero, one):  # fmt: skip
        if accumulator is None:
            sum = v = sum + g * g
        else:
            v = xp.matrix(plus_least, g * g, accumulator)
            accumulator = xp.matrix(largest, accumulator, v)
        u = xp.where(v <= zero, zero, g / xp.sqrt(xp.where(v <= zero, one, v + eps)))
        if exp_avg is not None:
            u = exp_avg = ema(exp_avg, u, gain)
        return learning_rate * u, accumulator, sum, exp_avg
