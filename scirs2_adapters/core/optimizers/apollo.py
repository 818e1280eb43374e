"""APOLLO."""

from ..fields import choice, count, fraction, nonnegative
from ..formulas import ema, one_minus_power
from ..projections import at_random, scaled_lines
from ..slots import low, scalar
from ._projected import ProjectedRule


class APOLLO(ProjectedRule, moduli=None):
    """The gradient itself, scaled line by line as Adam scales its projection onto directions that chance chooses.

    P = a matrix of random numbers of variance 1 / rank, another one every update_proj_gap steps
    r = g @ P;   m = m + (1 - beta1) * (r - m);   v = v + (1 - beta2) * (r * r - v);   d = m / (sqrt(v) + eps)
    s = g * norm(d) / (norm(r) + 1e-8)   with a norm for each line, or of all with scale_type="tensor"
    s = s / (max(norm(s) / (n + 1e-8), 1.01) / 1.01);   n = norm(s)   from the second s on
    p = p - (lr * weight_decay * p + lr * sqrt(scale) * sqrt(1 - beta2^t) / (1 - beta1^t) * s)

    Lines are the rows or columns along the shorter side, which is the one that is projected. A matrix is projected if
    both of its sides are longer than rank, and kernels of more than two axes as matrices of their outputs by all else.
    Anything else is stepped by AdamW, without the scale. Its authors do so with embeddings and heads too: give those a
    group with rank=0. P is remembered nowhere, and the same for all matrices of its size.

    Paper: Zhu et al. 2024, arXiv 2412.05270.
    Differs from the paper: follows its authors' code, where moments stay as they are when P changes, but for these. The
    numbers of P are evenly spread and not normal, with the same variance, so that every framework has the same bits.
    After a gradient of zeros the limit n begins anew, where theirs would hold steps near 0 for more than 1,000 steps.
    Theirs projects small matrices too, takes no kernels, and decays what has moved already.
    """

    rank = count(256, "so many directions are projected onto; 0 is none, as for embeddings and heads", True, least=0)
    beta1 = fraction(0.9, "decay rate of the mean of projected gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared projected gradients")
    eps = nonnegative(1e-6, "added to the root")
    scale = nonnegative(1.0, "of the step of what is projected: its root multiplies it")
    scale_type = choice("channel", "whether each line is scaled by itself, or all together", "channel", "tensor")

    def coefficients(self, math, t):
        corrections = one_minus_power(math, self.beta1, t), one_minus_power(math, self.beta2, t)
        step_size = self.learning_rate * math.sqrt(corrections[1]) / corrections[0]
        chosen = t - 1 - (t - 1) % self.update_proj_gap
        return {
            "step_size": step_size, "scaled_size": math.sqrt(self.scale) * step_size,
            "gain1": 1 - self.beta1, "gain2": 1 - self.beta2, "turn": chosen / self.update_proj_gap,
            "growth": 1.01, "tiny": 1e-8,
        }  # fmt: skip

    def update(self, xp, p, g, exp_avg: low(), exp_avg_sq: low("uint8"), update_norm: scalar(present_if="projects"), /,
               step_size, scaled_size, gain1, gain2, eps, turn, growth, tiny, zero, one):  # fmt: skip
        r = g if update_norm is None else xp.matrix(at_random, exp_avg, g, turn)
        exp_avg, exp_avg_sq = ema(exp_avg, r, gain1), ema(exp_avg_sq, r * r, gain2)
        direction = exp_avg / (xp.sqrt(exp_avg_sq) + eps)
        if update_norm is None:
            return step_size * direction, exp_avg, exp_avg_sq, None
        scaled = self._scaled(xp, g, direction, r, tiny)
        norm = xp.norm(scaled)
        limited = xp.maximum(norm / (update_norm + tiny), growth) / growth
        over = xp.where(update_norm > zero, limited, one)
        return scaled_size / over * scaled, exp_avg, exp_avg_sq, norm / over

    def _scaled(self, xp, g, direction, r, tiny):
        if self.scale_type == "channel":
            return xp.matrix(scaled_lines, g, direction, r, tiny)
        return xp.norm(direction) / (xp.norm(r) + tiny) * g
