"""Optimistic Adam by optax's later interface."""

from ..fields import finite
from ._optimistic import OptimisticMoments


class OptimisticAdamV2(OptimisticMoments):
    """Optimistic Adam whose two weights are multiplied by the learning rate, so that a schedule changes both.

    r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t) + eps_root) + eps)     (m, v as in Adam)
    p = p - lr * (alpha * r + beta * (r - r') + weight_decay * p)          (r' is the last r; r itself at first)
    nesterov: beta1 * m / (1 - beta1^(t+1)) + (1 - beta1) * g / (1 - beta1^t) stands for m / (1 - beta1^t)

    Paper: Daskalakis, Ilyas, Syrgkanis, Zeng 2017, arXiv 1711.00141.
    Differs from the paper: the first step has no last direction, as in optax; the paper's is twice as long.
    """

    alpha = finite(1.0, "weight of the direction")
    beta = finite(1.0, "weight of its change")

    def coefficients(self, math, t):
        return self.directions(math, t, self.learning_rate * self.alpha, self.learning_rate * self.beta)
