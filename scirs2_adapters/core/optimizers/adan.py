"""Adan."""

from ..fields import fraction
from ..formulas import ema
from ..match import OptaxState
from ..slots import NONNEGATIVE, slot
from ._moments import Moments, difference_coefficients


class Adan(Moments, decay="inside"):
    """Adam with Nesterov's look-ahead from the difference of two gradients, which has a mean of its own.

    h = g - the gradient before                   (0 in the first step)
    m = m + (1 - beta1) * (g - m)
    d = d + (1 - beta2) * (h - d)
    v = v + (1 - beta3) * ((g + beta2 * h)^2 - v)
    u = (m / (1 - beta1^t) + beta2 * d / (1 - beta2^t)) / (sqrt(v / (1 - beta3^t) + eps_root) + eps)
    p = (p - lr * u) / (1 + lr * weight_decay)

    Paper: Xie, Zhou, Li, Lin, Yan 2022, arXiv 2208.06677, whose betas are 1 minus these.
    Differs from the paper: the means are corrected for their beginning, as in its authors' code. In u and v, optax has
    1 - beta2 in the place of beta2.
    """

    beta1 = fraction(0.98, "decay rate of the mean of gradients")
    beta2 = fraction(0.92, "decay rate of the mean of differences, and their weight beside gradients")
    beta3 = fraction(0.99, "decay rate of the mean of squares")
    #: Whether differences weigh 1 - beta2.
    weighs_rest = False
    matches = {"optax": {"eps_root": 1e-8, "decay": "decoupled", "weighs_rest": True}}
    optax_state = OptaxState(
        "ScaleByAdanState",
        {"m": "exp_avg", "v": "exp_avg_diff", "n": "exp_avg_sq", "g": "prev", "t": "count"},
        decays="after",
    )
    coefficients = difference_coefficients

    def update(self, xp, p, g, exp_avg, exp_avg_diff, exp_avg_sq: NONNEGATIVE, prev: slot(block_dtype=None), /,
               later, weight, one_minus_beta1, one_minus_beta2, one_minus_beta3, step_size, diff_rate,
               scale3, eps, eps_root, shrink):  # fmt: skip
        diff = later * (g - prev)
        ahead = g + weight * diff
        exp_avg, exp_avg_diff = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_diff, diff, one_minus_beta2)
        exp_avg_sq = ema(exp_avg_sq, ahead * ahead, one_minus_beta3)
        u = (step_size * exp_avg + diff_rate * exp_avg_diff) / (xp.sqrt(exp_avg_sq * scale3 + eps_root) + eps)
        return shrink * p + u, exp_avg, exp_avg_diff, exp_avg_sq, g
