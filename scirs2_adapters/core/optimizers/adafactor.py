"""Adafactor."""

from ..fields import nonnegative, nonpositive, positive, rate
from ..formulas import average
from ..rule import Rule
from ..slots import EPSILON, column, row, slot


class Adafactor(Rule):
    """Adam without momentum whose second moments are kept as row and column means: n + m numbers for an n x m matrix.

    r = r + t^beta2_decay * (mean over columns of g * g - r)          (c likewise over rows; vectors keep v in full)
    v = r * c / max(mean of r, eps1)
    u = g / sqrt(max(v, eps1^2));   u = u / max(1, rms(u) / clip_threshold)
    p = p - (lr * weight_decay * p + min(lr, 1 / sqrt(t)) * max(eps2, rms(p)) * u)

    Paper: Shazeer, Stern 2018, arXiv 1804.04235.
    Differs from the paper: the learning rate bounds the relative step, and eps1 bounds the estimate instead of being
    added to g * g, as in PyTorch. Tensors of more than two axes are batches of matrices over the last two.
    """

    learning_rate = rate(1e-2)
    beta2_decay = nonpositive(-0.8, "exponent of the decay: the newest square has weight t^beta2_decay")
    eps1 = positive(None, "least root of the estimate; None is the machine epsilon of the parameter's dtype")
    eps2 = nonnegative(1e-3, "least root mean square taken for the parameter's scale")
    clip_threshold = positive(1.0, "largest root mean square of the unscaled step")
    matches = {"torch": {}, "keras": {"learning_rate": 1e-3, "eps1": 1e-30, "decay": "before"}}

    def factored(self, leaf):
        return len(leaf.shape) >= 2

    def vector(self, leaf):
        return not self.factored(leaf)

    def coefficients(self, xp, t):
        step = xp.minimum(self.learning_rate, 1 / xp.sqrt(t))
        return {"step": step, "gain": t**self.beta2_decay}

    def leaf_coefficients(self, leaf):
        return {"eps1": EPSILON[leaf.dtype] if self.eps1 is None else self.eps1}

    def update(self, xp, p, g, row_var: row("factored"), col_var: column("factored"), variance: slot("vector"), /,
               step, gain, eps1, eps2, clip_threshold, one):  # fmt: skip
        scale = step * xp.maximum(eps2, xp.sqrt(xp.mean(p * p)))
        if variance is None:
            row_var, col_var = average(row_var, xp.mean(g * g, -1), gain), average(col_var, xp.mean(g * g, -2), gain)
            estimate = row_var * col_var / xp.maximum(xp.mean(row_var, -2), eps1)
        else:
            estimate = variance = average(variance, g * g, gain)
        u = g / xp.maximum(xp.sqrt(estimate), eps1)
        u = u / xp.maximum(one, xp.sqrt(xp.mean(u * u)) / clip_threshold)
        return scale * u, row_var, col_var, variance
