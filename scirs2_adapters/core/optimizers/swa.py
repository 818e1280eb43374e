"""The mean of parameters beside any optimizer."""

from ..fields import count
from ..formulas import ema
from ..slots import AVERAGE
from ..wrapper import Wrapper


class SWA(Wrapper):
    """The base, and beside it the mean of its parameters from step swa_start on, every swa_period steps: Polyak
    averaging with the defaults, stochastic weight averaging with a late start. The mean is what is to be evaluated.

    p = step of the base optimizer
    average = p before swa_start;   then every swa_period steps:  average = average + (p - average) / (how many so far)

    Paper: Polyak, Juditsky 1992, SIAM J. Control and Optimization 30; Izmailov et al. 2018, arXiv 1803.05407.
    Differs from the paper: nothing. Statistics of BatchNorm have to be collected anew for the mean, as with PyTorch's
    update_bn.
    """

    swa_start = count(1, "the first step whose parameters are in the mean")
    swa_period = count(1, "steps between two that are in the mean")

    def wrap_coefficients(self, math, t):
        since = t - self.swa_start
        share = math.where(since % self.swa_period == 0, 1 / math.maximum(since / self.swa_period + 1, 1.0), 0.0)
        return {"share": math.where(since < 0, 1.0, share)}

    def wrap(self, xp, p, weight_average: AVERAGE, /, share):
        return p, ema(weight_average, p, share)

    def evaluation(self, xp, p, weight_average, /):
        return weight_average
