"""Adam-mini."""

from ..fields import choice, fraction, nonnegative
from ..formulas import adam_coefficients, ema
from ..matrix import INPUTS_FIRST, OUTPUTS_FIRST
from ..rule import Rule
from ..slots import column, row, slot
from . import _muon_names as names


class AdamMini(Rule):
    """Adam with one second moment for each output of a layer, and each token of an embedding: half of Adam's memory.

    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (mean over inputs of g * g - v)
    p = p - (lr * weight_decay * p + lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps))

    Vectors and single numbers, such as biases and gains, are stepped by AdamW, and so are kernels of more than two
    axes, but for those of layers called experts, which are batches of matrices over the last two.

    Paper: Zhang et al. 2024, arXiv 2406.16793.
    Differs from the paper: queries and keys have a v for each output, which is finer than one for each head, since
    nothing says where heads are; and gains of normalizations keep all squares.
    """

    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the means of squared gradients")
    eps = nonnegative(1e-8, "added to the root")
    layout = choice(None, "how kernels lie; None is as the framework's layers have them", OUTPUTS_FIRST, INPUTS_FIRST)
    eps_root = 0.0
    looks_at_names = True
    coefficients = adam_coefficients

    def by_rows(self, leaf):
        """Whether outputs are rows. Those of an embedding are tokens in every framework."""
        first = (self.layout or leaf.layout) == OUTPUTS_FIRST or names.is_a(names.EMBEDDING, leaf.name)
        return first and not self.whole(leaf)

    def by_columns(self, leaf):
        return not self.by_rows(leaf) and not self.whole(leaf)

    def whole(self, leaf):
        axes = len(leaf.shape)
        return axes < 2 or (axes > 2 and not names.is_a(names.STACK, leaf.name))

    def update(self, xp, p, g, exp_avg, row_var: row("by_rows"), col_var: column("by_columns"),
               exp_avg_sq: slot("whole", block_dtype="uint8"), /,
               step_size, one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps):  # fmt: skip
        exp_avg = ema(exp_avg, g, one_minus_beta1)
        if row_var is not None:
            row_var = v = ema(row_var, xp.mean(g * g, -1), one_minus_beta2)
        elif col_var is not None:
            col_var = v = ema(col_var, xp.mean(g * g, -2), one_minus_beta2)
        else:
            exp_avg_sq = v = ema(exp_avg_sq, g * g, one_minus_beta2)
        return step_size * exp_avg / (xp.sqrt(v * inv_bias_correction2) + eps), exp_avg, row_var, col_var, exp_avg_sq
