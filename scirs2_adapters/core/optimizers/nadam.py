"""NAdam."""

import math

from ..fields import is_number, number, rate
from ..formulas import adam_coefficients, ema
from ..slots import NONNEGATIVE, scalar
from ._moments import DecoupledMoments, growing_momentum


class NAdam(DecoupledMoments):
    """Adam with Nesterov's look-ahead, whose momentum grows from half of beta1 to beta1.

    c(t) = beta1 * (1 - 0.96^(t * momentum_decay) / 2);   k = k * c(t), at first 1
    m, v as in Adam                               (g includes weight_decay * p, unless decoupled_weight_decay)
    u = (1 - c(t)) / (1 - k) * g + c(t + 1) / (1 - k * c(t + 1)) * m
    p = p - lr * u / (sqrt(v / (1 - beta2^t) + eps_root) + eps)

    Paper: Dozat 2016, ICLR workshop.
    Differs from the paper: nothing. An infinite momentum_decay keeps the momentum at beta1, as optax has it.
    """

    learning_rate = rate(2e-3)
    momentum_decay = number(4e-3, "speed at which the momentum grows", "must be a number >= 0", lambda v: v >= 0)
    theirs = {"learning_rate": 1e-3, "momentum_decay": 1.0, "decoupled_weight_decay": True}
    matches = {"torch": {}, "optax": {"momentum_decay": math.inf}, "keras": theirs}

    def growing(self, leaf):
        return not (is_number(self.momentum_decay) and self.momentum_decay == math.inf)

    def coefficients(self, math, t):
        return adam_coefficients(self, math, t) | growing_momentum(self, math, t)

    def update(self, xp, p, g, mu_product: scalar(1.0, "growing"), exp_avg, exp_avg_sq: NONNEGATIVE, /,
               learning_rate, c, k, late,
               one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps, eps_root, rest, c_next, one):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, g * g, one_minus_beta2)
        k = k if mu_product is None else xp.where(mu_product >= one, late, mu_product * c)
        u = rest / (one - k) * g + c_next / (one - k * c_next) * exp_avg
        return learning_rate * u / (xp.sqrt(exp_avg_sq * inv_bias_correction2 + eps_root) + eps), k, exp_avg, exp_avg_sq
