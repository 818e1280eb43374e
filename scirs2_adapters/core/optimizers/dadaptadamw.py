"""D-Adaptation of AdamW."""

from ..fields import flag, fraction, nonnegative
from ..formulas import ema, one_minus_power
from ..slots import NONNEGATIVE, model
from ._dadapt import DAdapted, grown, growth, learned, moving


class DAdaptAdamW(DAdapted, decay="inside", first_step="d0"):
    """AdamW that finds its own learning rate: d estimates the distance to the solution; leave learning_rate at 1.

    k = d * lr                                        (times sqrt(1 - beta2^t) / (1 - beta1^t) with use_bias_correction)
    r = c * r + (1 - c) * k * <g, s / (sqrt(v) + eps)>              (over all parameters; c = sqrt(beta2))
    m = beta1 * m + k * (1 - beta1) * g;   v = beta2 * v + (1 - beta2) * g * g;   s = c * s + k * (1 - c) * g
    p = p - (weight_decay * k * p + m / (sqrt(v) + eps))
    d = max(d, min(r / ((1 - c) * |s|_1), d * growth_rate))         (for the next step)

    Groups may differ in learning_rate, weight_decay, beta1 and eps. Of one with a learning rate of 0 nothing is
    learned.

    Paper: Defazio, Mishchenko 2023, arXiv 2301.07733, algorithm 5.
    Differs from the paper: as its authors' DAdaptAdam(decouple=True); d stays as it is while s is 0, where optax makes
    it NaN. What others call plain DAdaptation, of the preprint, is another formula.
    """

    beta1 = fraction(0.9, "decay rate of the mean of scaled gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared gradients; its root is that of the estimate")
    eps = nonnegative(1e-8, "added to the root")
    use_bias_correction = flag(False, "correct the moments as Adam does", structural=False)
    #: optax squares a complex number itself, and its estimate is complex.
    matches = {"optax": {"use_bias_correction": True, "moduli": None, "freezes": False}}

    def coefficients(self, math, t):
        correction = math.sqrt(one_minus_power(math, self.beta2, t)) / one_minus_power(math, self.beta1, t)
        moves, one_minus_c = moving(self, math), (1 - self.beta2) / (1 + math.sqrt(self.beta2))
        return growth(self, math) | {
            "step_size": self.learning_rate * (correction if self.use_bias_correction else 1),
            "moves": moves,
            "gain1": moves * (1 - self.beta1),
            "gain2": moves * (1 - self.beta2),
            "gain": moves * one_minus_c,
            "one_minus_c": one_minus_c,
        }

    def update(self, xp, p, g, s, exp_avg, exp_avg_sq: NONNEGATIVE, d: model("d0"), numerator_weighted: model(), /,
               step_size, weight_decay, moves, gain1, gain2, gain, one_minus_c, eps,
               limited, largest, zero, one):  # fmt: skip
        k = d * step_size
        ahead = d * xp.total(step_size * g * s / (xp.sqrt(exp_avg_sq) + eps))
        s = ema(s, k * g, gain)
        s_norm = xp.total(moves * xp.abs(s))
        numerator_weighted = learned(xp, numerator_weighted, ahead, one_minus_c, s_norm, zero)
        d = grown(xp, d, numerator_weighted, one_minus_c * s_norm, limited, largest, zero, one)
        exp_avg, exp_avg_sq = ema(exp_avg, k * g, gain1), ema(exp_avg_sq, g * g, gain2)
        u = weight_decay * k * p + moves * exp_avg / (xp.sqrt(exp_avg_sq) + eps)
        return u, s, exp_avg, exp_avg_sq, d, numerator_weighted
