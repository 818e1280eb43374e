"""GrokAdamW."""

from ..fields import fraction, nonnegative
from ..formulas import adam_coefficients, ema
from ..rule import Rule
from ..slots import NONNEGATIVE


class GrokAdamW(Rule, eps_place="hat"):
    """AdamW that strengthens what of the gradient changes slowly, which is what generalizes after a long time.

    g = g / max(1, (|g| + 1e-6) / gradient_clipping), |g| the norm of a tensor          (gradient_clipping=0 leaves g)
    alpha = alpha_init * exp(-grokking_signal_decay_rate * grokking_signal)
    e = e + (1 - alpha) * (g - e);   h = g + lamb * e
    m, v as in Adam, of h
    p = p - (lr * weight_decay * p + lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps))

    The signal is yours to set, as a schedule sets the learning rate; its authors take
    max(0, eval_loss - train_loss) / max(eval_loss, train_loss), and 0 where these are not given.

    Paper: Lee et al. 2024, arXiv 2405.20233 (the slow gradients); the rest is that of the package grokadamw.
    Differs from the paper: that package multiplies beta1 by (1 - gamma)^i for the i-th parameter of a group, gamma
    being 0.1. There is no gamma here, as the order of a list is nothing of a parameter's.
    """

    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    eps = nonnegative(1e-8, "added to the root, which is not corrected")
    weight_decay = nonnegative(1e-2, "weight decay, times the learning rate")
    alpha_init = fraction(0.98, "decay rate of the mean of slow gradients where there is no signal")
    lamb = nonnegative(2.0, "weight of the slow gradients")
    grokking_signal = nonnegative(0.0, "how much better the training loss is than that of unseen data, in parts")
    grokking_signal_decay_rate = nonnegative(0.1, "how much the signal shortens the mean of slow gradients")
    gradient_clipping = nonnegative(1.0, "largest norm of the gradient of a tensor; 0 clips nothing")
    eps_root = 0.0

    def coefficients(self, math, t):
        alpha = self.alpha_init * math.exp(-self.grokking_signal_decay_rate * self.grokking_signal)
        clips, limit = math.where(self.gradient_clipping > 0, 1.0, 0.0), math.maximum(self.gradient_clipping, 1e-30)
        return adam_coefficients(self, math, t) | {"gain": 1 - alpha, "inv_limit": clips / limit, "tiny": 1e-6}

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, grok_ema, /,
               step_size, one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps,
               gain, lamb, inv_limit, tiny, one):  # fmt: skip
        g = g / xp.maximum(one, (xp.norm(g) + tiny) * inv_limit)
        grok_ema = ema(grok_ema, g, gain)
        h = g + lamb * grok_ema
        exp_avg, exp_avg_sq = ema(exp_avg, h, one_minus_beta1), ema(exp_avg_sq, h * h, one_minus_beta2)
        return step_size * exp_avg / (xp.sqrt(exp_avg_sq * inv_bias_correction2) + eps), exp_avg, exp_avg_sq, grok_ema
