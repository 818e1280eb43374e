"""An exponential average beside the parameters of any optimizer."""

from .. import formulas
from ..fields import fraction
from ..slots import AVERAGE
from ..wrapper import Wrapper


class WeightEMA(Wrapper):
    """The base, and beside it an exponential average of its parameters, which is what is to be evaluated.

    p = step of the base optimizer
    average = average + (1 - ema_decay) * (p - average)

    Paper: Polyak, Juditsky 1992, SIAM J. Control and Optimization 30; Tarvainen, Valpola 2017, arXiv 1703.01780.
    Differs from the paper: nothing. The average begins with the parameter before the first step, as Keras has it;
    PyTorch's AveragedModel begins with the one after it.
    """

    ema_decay = fraction(0.999, "decay rate of the average of parameters")

    def wrap_coefficients(self, math, t):
        return {"gain": 1 - self.ema_decay}

    def wrap(self, xp, p, weight_average: AVERAGE, /, gain):
        return p, formulas.ema(weight_average, p, gain)

    def evaluation(self, xp, p, weight_average, /):
        return weight_average
