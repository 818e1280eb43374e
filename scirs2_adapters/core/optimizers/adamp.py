"""AdamP."""

import math as numbers

from ..fields import flag, fraction, nonnegative, positive
from ..formulas import adam_coefficients, ema
from ..rule import Rule
from ..slots import NONNEGATIVE
from ._outputs import LAYOUT, layer_view, leaf_sizes, projected


class AdamP(Rule, decay="inside", moduli=None, by_output=True):
    """Adam that does not lengthen weights whose scale is of no effect, as those before a normalization.

    m, v as in Adam;   m_hat = m, or m + (1 - beta1) * (g - m) with nesterov
    u = lr / (1 - beta1^t) * m_hat / (sqrt(v / (1 - beta2^t)) + eps)
    n = p / (|p| + eps),  |p| that of each output's weights if all have |cos(g, p)| < delta / sqrt(inputs); else that
        of the layer if |cos(g, p)| < delta / sqrt(its size)
    p = p - (u - n * sum(n * u) + lr * wd_ratio * weight_decay * p)            where one of the two holds
    p = p - (u + lr * weight_decay * p)                                        elsewhere, and of vectors

    Paper: Heo et al. 2020, arXiv 2006.08217.
    Differs from the paper: nothing. Its delta is divided by a root, as in its authors' code.
    """

    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients")
    eps = positive(1e-8, "added to the root and to norms")
    delta = nonnegative(0.1, "largest cosine, times the root of the size, of weights whose scale is of no effect")
    wd_ratio = nonnegative(0.1, "part of weight decay that is left to these")
    nesterov = flag(False, "look ahead along the mean of gradients", structural=False)
    layout = LAYOUT
    eps_root = 0.0
    looks_at_names = True

    def view(self, leaf):
        return layer_view(self.layout, leaf)

    def coefficients(self, math, t):
        return adam_coefficients(self, math, t) | {"shrinkage": self.learning_rate * self.weight_decay}

    def leaf_coefficients(self, leaf):
        inputs, size = leaf_sizes(self.view(leaf), leaf)
        along = {"along_output": self.delta / numbers.sqrt(inputs), "along_layer": self.delta / numbers.sqrt(size)}
        return along | {"inputs": float(inputs), "size": float(size)}

    def update(self, xp, p, g, exp_avg, exp_avg_sq: NONNEGATIVE, /,
               step_size, one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps,
               shrinkage, wd_ratio, inputs, size, along_output, along_layer, zero, one):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, g * g, one_minus_beta2)
        m_hat = ema(exp_avg, g, one_minus_beta1) if self.nesterov else exp_avg
        u = step_size * m_hat / (xp.sqrt(exp_avg_sq * inv_bias_correction2) + eps)
        small = (inputs, along_output), (size, along_layer)
        return projected(xp, u, p, g, shrinkage, wd_ratio, eps, zero, one, small), exp_avg, exp_avg_sq
