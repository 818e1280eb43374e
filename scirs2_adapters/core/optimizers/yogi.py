"""Yogi."""

from ..fields import nonnegative, rate
from ..formulas import adam_coefficients, ema
from ..match import OptaxState
from ..slots import slot
from ._moments import Moments


class Yogi(Moments):
    """Adam whose mean of squares moves by a share of g^2 and not of its distance to it: it forgets large ones slowly.

    m = m + (1 - beta1) * (g - m)                                    (both begin at initial_accumulator_value)
    v = v - (1 - beta2) * sign(v - g^2) * g^2
    p = p - lr * (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t) + eps_root) + eps) + weight_decay * p)

    Paper: Zaheer, Reddi, Sachan, Kale, Kumar 2018, NeurIPS.
    Differs from the paper: both means are corrected for their beginning, and begin at 1e-6, as in optax.
    """

    learning_rate = rate(1e-2)
    eps = nonnegative(1e-3, "added to the root; bounds the step where gradients vanish")
    initial_accumulator_value = nonnegative(1e-6, "both means before the first step")
    matches = {"optax": {}}
    optax_state = OptaxState("ScaleByAdamState", {"count": "count", "mu": "exp_avg", "nu": "exp_avg_sq"})
    coefficients = adam_coefficients

    def update(self, xp, p, g, exp_avg: slot(initial="initial_accumulator_value"),
               exp_avg_sq: slot(initial="initial_accumulator_value", block_dtype="uint8"), /, step_size,
               one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps, eps_root):  # fmt: skip
        square = g * g
        exp_avg = ema(exp_avg, g, one_minus_beta1)
        exp_avg_sq = exp_avg_sq - one_minus_beta2 * (xp.sign(exp_avg_sq - square) * square)
        return step_size * exp_avg / (xp.sqrt(exp_avg_sq * inv_bias_correction2 + eps_root) + eps), exp_avg, exp_avg_sq
