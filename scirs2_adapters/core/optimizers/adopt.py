"""ADOPT."""

from ..fields import flag, fraction, nonnegative
from ..formulas import ema
from ..match import OptaxState
from ..rule import Rule
from ..slots import NONNEGATIVE


class ADOPT(Rule):
    """Adam that divides each gradient by the squares of those before it, and averages after: it converges at any beta2.

    x = clip(g / max(sqrt(v), eps), -c, c)        (c = (t - 1)^0.25; without use_clipping no bound)
    m = m + (1 - beta1) * (x - m)
    v = v + (1 - beta2) * (g * g - v)
    p = p - lr * (m + weight_decay * p)
    The first step sets v = g * g and leaves m at 0; nesterov: m + (1 - beta1) * (x - m) stands for m

    Paper: Taniguchi et al. 2024, arXiv 2411.02853; the bound is of its second version.
    Differs from the paper: weight decay acts in the first step too. timm's bound is (t - 1)^0.333.
    """

    beta1 = fraction(0.9, "decay rate of the mean of divided gradients")
    beta2 = fraction(0.9999, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-6, "least value of the root; bounds the step where gradients vanish")
    nesterov = flag(False, "look ahead along the mean")
    use_clipping = flag(True, "bound divided gradients by the fourth root of the number of steps before")
    matches = {"optax": {"moduli": None}}
    optax_state = OptaxState("ScaleByAdamState", {"count": "count", "mu": "exp_avg", "nu": "exp_avg_sq"})

    def coefficients(self, math, t):
        gains = {"gain1": math.where(t > 1, 1 - self.beta1, 0.0), "gain2": math.where(t > 1, 1 - self.beta2, 1.0)}
        return gains | {"bound": math.sqrt(math.sqrt(t - 1))}

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, /, learning_rate, gain1, gain2, bound, eps):
        x = g / xp.maximum(xp.sqrt(exp_avg_sq), eps)
        x = xp.minimum(xp.maximum(x, -bound), bound) if self.use_clipping else x
        exp_avg, exp_avg_sq = ema(exp_avg, x, gain1), ema(exp_avg_sq, g * g, gain2)
        return learning_rate * (ema(exp_avg, x, gain1) if self.nesterov else exp_avg), exp_avg, exp_avg_sq
