"""Adam-mini."""

from ..fields import choice, fraction, nonnegative
from ..formulas import adam_coefficients, ema
from ..matrix import INPUTS_FIRST, OUTPUTS_FIRST
from ..rule import Rule
from ..slots import row, slot
from . import _muon_names as names


class AdamMini(Rule):
    """Adam with one second moment for each output of a layer, and each token of an embedding: half of Adam's memory.

    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (mean over inputs of g * g - v)
    p = p - (lr * weight_decay * p + lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps))

    Vectors and single numbers, such as biases and gains, are stepped by AdamW. Kernels of convolutions have a v for
    each output and position.

    Paper: Zhang et al. 2024, arXiv 2406.16793.
    Differs from the paper: queries and keys have a v for each output, which is finer than one for each head, since
    nothing says where heads are; and gains of normalizations keep all squares.
    """

    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = fraction(0.999, "decay rate of the means of squared gradients")
    eps = nonnegative(1e-8, "added to the root")
    layout = choice(None, "how kernels lie; None is as the framework's layers have them", OUTPUTS_FIRST, INPUTS_FIRST)
    eps_root = 0.0
    coefficients = adam_coefficients

    def by_outputs(self, leaf):
        return len(leaf.shape) > 1

    def whole(self, leaf):
        return not self.by_outputs(leaf)

    def axes(self, leaf):
        """Outputs and inputs. The rows of an embedding are tokens in every framework."""
        if (self.layout or leaf.layout) == INPUTS_FIRST and not names.is_a(names.EMBEDDING, leaf.name):
            return -1, -2
        count = max(2, len(leaf.shape))
        return (-2, -1) if names.is_a(names.STACK, leaf.name) else (-count, 1 - count)

    def update(self, xp, p, g, exp_avg, vmean: row("by_outputs"), exp_avg_sq: slot("whole", block_dtype="uint8"), /,
               step_size, one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps):  # fmt: skip
        exp_avg = ema(exp_avg, g, one_minus_beta1)
        if exp_avg_sq is None:
            vmean = v = ema(vmean, xp.mean(g * g, -1), one_minus_beta2)
        else:
            exp_avg_sq = v = ema(exp_avg_sq, g * g, one_minus_beta2)
        return step_size * exp_avg / (xp.sqrt(v * inv_bias_correction2) + eps), exp_avg, vmean, exp_avg_sq
