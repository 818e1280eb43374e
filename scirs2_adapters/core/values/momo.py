"""Momo."""

from ..fields import fraction
from ..formulas import ema
from ..slots import model
from ._momo import LOWER_BOUND, ModelBased, along


class Momo(ModelBased, time_dependence="first"):
    """Momentum whose step follows the loss: as far as a model of the loss falls to its lower bound, and at most lr.

    f = momentum * f + (1 - momentum) * loss             (f = loss at the first step, and so with d and c)
    d = momentum * d + (1 - momentum) * g
    c = momentum * c + (1 - momentum) * <g, p>                                 (sums are over all parameters)
    h = (1 + lr * weight_decay) * (f - lower_bound - c) + <d, p>
    p = (p - min(lr, max(h, 0) / |d|^2) * d) / (1 + lr * weight_decay)
    adapt_lower_bound: lower_bound is what the model of the loss leaves of it, and never less than it was at first

    Each step is given the loss of which g is the gradient.

    Paper: Schaipp, Ohana, Eickenberg, Defazio, Gower 2023, arXiv 2305.07583, algorithms 1 and 3.
    Differs from the paper: no step is taken while |d|^2 is at most 2^-52, as in optax.
    """

    momentum = fraction(0.9, "decay rate of the means of losses and gradients")
    #: optax divides the parameter alone by 1 + lr * weight_decay. Its sums over complex numbers are complex.
    matches = {"optax": {"shrinks_step": False, "moduli": None}}

    def coefficients(self, math, t):
        gain = math.where(t == 1, 1.0, 1 - self.momentum)
        return self.model_coefficients(1.0) | {"gain": gain, "model_gain": gain}  # the latter of all parameters

    def update(self, xp, p, g, exp_avg, barf: model(), gamma: model(), lb: LOWER_BOUND, /,
               value, gain, model_gain, lower_bound, shrink, divisor, grown, most, correction, half, tiny,
               zero, one):  # fmt: skip
        barf, exp_avg = ema(barf, value, model_gain), ema(exp_avg, g, gain)
        gamma = ema(gamma, xp.total(g * p), model_gain)
        sums = xp.total(exp_avg * p), xp.total(exp_avg * exp_avg)
        scalars = lower_bound, grown, most, correction, half, tiny, zero, one
        tau, lb = along(xp, self.adapt_lower_bound, barf, gamma, lb, *sums, *scalars)
        return shrink * p + tau / divisor * exp_avg, exp_avg, barf, gamma, lb
