"""Adam, and AMSGrad."""

from ..fields import flag
from ..formulas import ema
from ..slots import NONNEGATIVE, slot
from ._moments import Moments, adam_direction, ahead_coefficients


class Adam(Moments, decay="l2"):
    """Adaptive moments: a step of about lr whatever the scale of the gradient.

    m = m + (1 - beta1) * (g - m)                 (g includes weight_decay * p)
    v = v + (1 - beta2) * (g * g - v)             (amsgrad: the largest v so far is used below)
    p = p - lr * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t) + eps_root) + eps)
    nesterov: beta1 * m / (1 - beta1^(t+1)) + (1 - beta1) * g / (1 - beta1^t) stands for m / (1 - beta1^t)

    Paper: Kingma, Ba 2014, arXiv 1412.6980; AMSGrad: Reddi, Kale, Kumar 2018, arXiv 1904.09237; nesterov: Dozat 2016.
    Differs from the paper: nothing. eps is outside the corrected root, as in its algorithm 1; Keras has "epsilon hat".
    """

    amsgrad = flag(False, "divide by the largest mean of squares so far")
    nesterov = flag(False, "look ahead along the mean of gradients")
    matches = {"torch": {}, "optax": {}, "keras": {"eps_place": "hat"}}
    coefficients = ahead_coefficients

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE,
               max_exp_avg_sq: slot("amsgrad", block_dtype="uint8"), /, step_size, grad_step_size,
               one_minus_beta1, one_minus_beta2, max_correction, inv_bias_correction2, eps, eps_root):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, g * g, one_minus_beta2)
        v = xp.maximum(max_exp_avg_sq, exp_avg_sq * max_correction) if self.amsgrad else exp_avg_sq
        root = xp.sqrt(v * inv_bias_correction2 + eps_root) + eps
        return adam_direction(self, exp_avg, g, step_size, grad_step_size) / root, exp_avg, exp_avg_sq, v
