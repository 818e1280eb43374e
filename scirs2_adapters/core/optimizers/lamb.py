"""LAMB."""

from ..fields import nonnegative
from ..formulas import adam_coefficients, ema
from ..slots import NONNEGATIVE
from ._moments import Moments


class LAMB(Moments, decay="inside"):
    """Adam whose step has, tensor by tensor, the length of the parameter times lr: made for very large batches.

    m, v as in Adam
    u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t) + eps_root) + eps) + weight_decay * p
    p = p - lr * (|p| / |u|) * u                  (the ratio counts as 1 where a norm is 0)

    Paper: You et al. 2019, arXiv 1904.00962.
    Differs from the paper: the norm of p is not clipped (its phi is the identity).
    """

    eps = nonnegative(1e-6, "added to the root")
    matches = {"optax": {}, "keras": {"decay": "before"}}

    def coefficients(self, math, t):
        return adam_coefficients(self, math, t) | {"wd": self.weight_decay if self.decay == "inside" else 0.0}

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, /,
               learning_rate, one_minus_beta1, one_minus_beta2, inv_bias_correction1, inv_bias_correction2,
               eps, eps_root, wd, zero, one):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, g * g, one_minus_beta2)
        u = inv_bias_correction1 * exp_avg / (xp.sqrt(exp_avg_sq * inv_bias_correction2 + eps_root) + eps) + wd * p
        p_norm, u_norm = xp.norm(p), xp.norm(u)
        divisor = xp.where(u_norm > zero, u_norm, one)  # so that the branch not taken has a derivative
        ratio = xp.where(p_norm > zero, xp.where(u_norm > zero, p_norm / divisor, one), one)
        return learning_rate * ratio * u, exp_avg, exp_avg_sq
