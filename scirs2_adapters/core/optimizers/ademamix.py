"""AdEMAMix."""

from ..fields import count, fraction, nonnegative
from ..formulas import adam_coefficients, ema
from ..match import OptaxState
from ..slots import NONNEGATIVE
from ._moments import Moments, slow_average


class AdEMAMix(Moments):
    """Adam along two means of gradients, one of which reaches tens of thousands of steps back.

    m = m + (1 - beta1) * (g - m)
    s = s + (1 - b) * (g - s)                     (not corrected for its beginning)
    v = v + (1 - beta2) * (g * g - v)
    p = p - lr * ((m / (1 - beta1^t) + a * s) / (sqrt(v / (1 - beta2^t) + eps_root) + eps) + weight_decay * p)
    a grows linearly to alpha over t_alpha steps, and the half-life of b from that of beta1 to that of beta3 over
    t_beta3 steps; where these are 0, a = alpha and b = beta3

    Paper: Pagliardini, Ablin, Grangier 2024, arXiv 2409.03137.
    Differs from the paper: nothing. alpha is 5, as in bitsandbytes and optax; its authors' code has 2.
    """

    beta3 = fraction(0.9999, "decay rate of the slow mean of gradients")
    alpha = nonnegative(5.0, "weight of the slow mean beside the fast one")
    t_alpha = count(0, "steps over which the weight of the slow mean grows from 0", least=0)
    t_beta3 = count(0, "steps over which the decay rate of the slow mean grows from beta1", least=0)
    matches = {"optax": {}}
    optax_state = OptaxState(
        "ScaleByAdemamixState",
        {"count": "count", "count_m2": "count", "m1": "exp_avg", "m2": "exp_avg_slow", "nu": "exp_avg_sq"},
        decays="after",
    )

    def coefficients(self, math, t):
        return adam_coefficients(self, math, t) | slow_average(self, math, t)

    def update(self, xp, p, g, exp_avg, exp_avg_slow, exp_avg_sq: NONNEGATIVE, /, step_size, slow_step_size,
               one_minus_beta1, one_minus_beta2, one_minus_beta3, inv_bias_correction2, eps, eps_root):  # fmt: skip
        exp_avg, exp_avg_slow = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_slow, g, one_minus_beta3)
        exp_avg_sq = ema(exp_avg_sq, g * g, one_minus_beta2)
        root = xp.sqrt(exp_avg_sq * inv_bias_correction2 + eps_root) + eps
        return (step_size * exp_avg + slow_step_size * exp_avg_slow) / root, exp_avg, exp_avg_slow, exp_avg_sq
