"""ACProp."""

from ..fields import nonnegative
from ..formulas import adam_coefficients, ema
from ..match import OptaxState
from ..slots import slot
from ._moments import Moments


class ACProp(Moments):
    """AdaBelief without momentum in the step, and with a divisor that has not seen the gradient which it divides.

    r = sqrt(s / (1 - beta2^(t-1)))               (1 where s is 0, as at the first step)
    s = s + (1 - beta2) * ((g - m)^2 - s) + eps_root;   m = m + (1 - beta1) * (g - m)
    p = p - lr * (g / (r + eps) + weight_decay * p)

    Where gradients have been 0 so far, r is about 1e-8, and the first gradient makes a step of lr * g * 1e8: with data
    that is often 0, such as images with a margin, take an eps of 1e-4.

    Paper: Zhuang et al. 2021, arXiv 2110.05454.
    Differs from the paper: deviations are from the mean before g, and eps_root stays in s, as in optax.
    """

    eps = nonnegative(1e-16, "added to the root; bounds the step where gradients do not vary")
    eps_root = nonnegative(1e-16, "added to the mean of squared deviations in each step")
    matches = {"optax": {}}
    optax_state = OptaxState("ScaleByBeliefState",
        {"count": "count", "mu": "exp_avg", "nu": "exp_avg_var"}, decays="after")  # fmt: skip

    def coefficients(self, math, t):
        return adam_coefficients(self, math, math.maximum(t - 1, 1))

    def update(self, xp, p, g, exp_avg, exp_avg_var: slot(block_dtype=None, accurate=True), /,
               learning_rate, one_minus_beta1, one_minus_beta2, inv_bias_correction2,
               eps, eps_root, zero, one):  # fmt: skip
        u = learning_rate * g / (xp.sqrt(xp.where(exp_avg_var <= zero, one, exp_avg_var * inv_bias_correction2)) + eps)
        apart = g - exp_avg
        exp_avg_var = ema(exp_avg_var, apart * apart, one_minus_beta2) + eps_root
        return u, ema(exp_avg, g, one_minus_beta1), exp_avg_var
