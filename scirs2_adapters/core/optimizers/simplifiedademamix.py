"""SimplifiedAdEMAMix."""

from ..fields import fraction, nonnegative
from ..formulas import adam_coefficients, ema, heavy_ball
from ..match import OptaxState
from ..slots import NONNEGATIVE
from ._moments import Moments


class SimplifiedAdEMAMix(Moments):
    """AdEMAMix with one slow sum of gradients: alpha says how much the newest gradient weighs beside it.

    m = beta1 * m + g                             (a sum, of about 1 / (1 - beta1) gradients)
    v = v + (1 - beta2) * (g * g - v)
    p = p - lr * ((m + alpha * g) / (sqrt(v / (1 - beta2^t) + eps_root) + eps) + weight_decay * p)

    Paper: Morwani, Vyas, Zhang, Kakade 2025, arXiv 2502.02431.
    Differs from the paper: v is corrected for its beginning, as in its authors' code and optax. That code can let beta1
    grow as well.
    """

    beta1 = fraction(0.99, "decay rate of the sum of gradients")
    beta2 = fraction(0.95, "decay rate of the mean of squared gradients")
    alpha = nonnegative(0.0, "weight of the newest gradient beside the sum")
    matches = {"optax": {"moduli": None}}
    optax_state = OptaxState(
        "ScaleBySimplifiedAdEMAMixState", {"t": "count", "m": "momentum_buffer", "n": "exp_avg_sq"}, decays="after"
    )
    coefficients = adam_coefficients

    def update(self, xp, p, g, momentum_buffer, exp_avg_sq: NONNEGATIVE, /, learning_rate, beta1, alpha,
               one_minus_beta2, inv_bias_correction2, eps, eps_root):  # fmt: skip
        momentum_buffer = heavy_ball(momentum_buffer, beta1, g)
        exp_avg_sq = ema(exp_avg_sq, g * g, one_minus_beta2)
        root = xp.sqrt(exp_avg_sq * inv_bias_correction2 + eps_root) + eps
        return learning_rate * (momentum_buffer + alpha * g) / root, momentum_buffer, exp_avg_sq
