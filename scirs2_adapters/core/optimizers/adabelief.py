"""AdaBelief."""

from ..fields import flag, nonnegative
from ..formulas import ema
from ..match import OptaxState
from ..slots import NONNEGATIVE
from ._moments import Moments, adam_direction, ahead_coefficients


class AdaBelief(Moments):
    """Adam that divides by how far gradients are from their mean: long steps where they agree, short ones where not.

    m = m + (1 - beta1) * (g - m)
    s = s + (1 - beta2) * ((g - m)^2 - s) + eps_root
    p = p - lr * (m / (1 - beta1^t) / (sqrt(s / (1 - beta2^t)) + eps) + weight_decay * p)
    nesterov: beta1 * m / (1 - beta1^(t+1)) + (1 - beta1) * g / (1 - beta1^t) stands for m / (1 - beta1^t)

    Paper: Zhuang et al. 2020, arXiv 2010.07468; nesterov: Dozat 2016.
    Differs from the paper: eps_root is added to s in each step and stays in it, as in its authors' package and optax.
    """

    eps = nonnegative(1e-16, "added to the root; bounds the step where gradients do not vary")
    eps_root = nonnegative(1e-16, "added to the mean of squared deviations in each step")
    nesterov = flag(False, "look ahead along the mean of gradients")
    matches = {"optax": {}}
    optax_state = OptaxState("ScaleByBeliefState", {"count": "count", "mu": "exp_avg", "nu": "exp_avg_var"})
    coefficients = ahead_coefficients

    def update(self, xp, p, g, exp_avg, exp_avg_var: NONNEGATIVE, /, step_size, grad_step_size, one_minus_beta1,
               one_minus_beta2, inv_bias_correction2, eps, eps_root):  # fmt: skip
        exp_avg = ema(exp_avg, g, one_minus_beta1)
        apart = g - exp_avg
        exp_avg_var = ema(exp_avg_var, apart * apart, one_minus_beta2) + eps_root
        root = xp.sqrt(exp_avg_var * inv_bias_correction2) + eps
        return adam_direction(self, exp_avg, g, step_size, grad_step_size) / root, exp_avg, exp_avg_var
