"""Adadelta."""

from ..fields import fraction, nonnegative, rate
from ..formulas import ema
from ..match import OptaxState
from ..rule import Rule
from ..slots import NONNEGATIVE


class Adadelta(Rule, decay="l2"):
    """Gradients scaled by the root mean square of past steps over that of past gradients, in the parameter's unit.

    v = v + (1 - decay_rate) * (g * g - v)        (g includes weight_decay * p)
    u = sqrt(d + eps) / sqrt(v + eps) * g
    d = d + (1 - decay_rate) * (u * u - d)
    p = p - lr * u

    Paper: Zeiler 2012, arXiv 1212.5701.
    Differs from the paper: the step is multiplied by lr, which is 1 there.
    """

    learning_rate = rate(1.0)
    decay_rate = fraction(0.9, "decay rate of both means of squares")
    eps = nonnegative(1e-6, "added under both roots; the first steps are of its size")
    #: optax squares a complex number itself, which is no measure of its size.
    matches = {"torch": {}, "optax": {"moduli": None}, "keras": {"learning_rate": 1e-3, "decay_rate": 0.95}}
    optax_state = OptaxState("ScaleByAdaDeltaState", {"e_g": "square_avg", "e_x": "acc_delta"}, decays="before")

    def coefficients(self, math, t):
        return {"gain": 1 - self.decay_rate}

    def update(self, xp, p, g, square_avg: NONNEGATIVE, acc_delta: NONNEGATIVE, /, learning_rate, gain, eps):
        square_avg = ema(square_avg, g * g, gain)
        delta = xp.sqrt(acc_delta + eps) / xp.sqrt(square_avg + eps) * g
        return learning_rate * delta, square_avg, ema(acc_delta, delta * delta, gain)
