"""AdaBound."""

from ..fields import flag, nonnegative, number
from ..formulas import ema, one_minus_power
from ..slots import NONNEGATIVE, slot
from ._moments import Moments


class AdaBound(Moments, decay="l2"):
    """Adam whose element-wise rates are kept between two bounds that meet: it begins as Adam and ends as plain descent.

    m = m + (1 - beta1) * (g - m)                 (g includes weight_decay * p)
    v = v + (1 - beta2) * (g * g - v)             (amsbound: the largest v so far is used below)
    r = lr * sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v + eps_root) + eps)
    p = p - clip(r, final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))) * m
    final = final_ratio * lr

    Paper: Luo, Xiong, Liu, Sun 2019, arXiv 1902.09843.
    Differs from the paper: r is corrected for its beginning and not divided by sqrt(t), as in its authors' code, whose
    final_lr is final_ratio times the first learning rate; final follows a schedule there too.
    """

    final_ratio = nonnegative(100.0, "rate that the bounds meet at, as a multiple of the learning rate")
    gamma = number(1e-3, "speed at which the bounds meet", "must be above 0 and below 1", lambda v: 0 < v < 1)
    amsbound = flag(False, "divide by the largest mean of squares so far")

    def coefficients(self, math, t):
        scale = math.sqrt(one_minus_power(math, self.beta2, t)) / one_minus_power(math, self.beta1, t)
        final, near = self.final_ratio * self.learning_rate, self.gamma * t
        bounds = {"low": final * (1 - 1 / (near + 1)), "high": final * (1 + 1 / near)}
        return bounds | {"rate": self.learning_rate * scale, "gain1": 1 - self.beta1, "gain2": 1 - self.beta2}

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, max_exp_avg_sq: slot("amsbound", block_dtype="uint8"),
               /, rate, gain1, gain2, low, high, eps, eps_root):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, gain1), ema(exp_avg_sq, g * g, gain2)
        v = xp.maximum(max_exp_avg_sq, exp_avg_sq) if self.amsbound else exp_avg_sq
        bounded = xp.minimum(xp.maximum(rate / (xp.sqrt(v + eps_root) + eps), low), high)
        return bounded * exp_avg, exp_avg, exp_avg_sq, v
