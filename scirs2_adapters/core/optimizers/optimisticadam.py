"""Optimistic Adam."""

from ..fields import nonnegative
from ._optimistic import OptimisticMoments


class OptimisticAdam(OptimisticMoments):
    """Adam that expects the next change of its direction to be the last one: for GANs and other games, which it calms.

    r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t) + eps_root) + eps)     (m, v as in Adam)
    p = p - (lr * r + optimism * (r - r') + lr * weight_decay * p)         (r' is the last r; r itself at first)
    nesterov: beta1 * m / (1 - beta1^(t+1)) + (1 - beta1) * g / (1 - beta1^t) stands for m / (1 - beta1^t)

    Paper: Daskalakis, Ilyas, Syrgkanis, Zeng 2017, arXiv 1711.00141.
    Differs from the paper: the first step has no last direction, as in optax; the paper's is twice as long.
    """

    optimism = nonnegative(None, "weight of the change of the direction; None is the learning rate")

    def coefficients(self, math, t):
        optimism = self.learning_rate if self.optimism is None else self.optimism
        return self.directions(math, t, self.learning_rate, optimism) | {"optimism": optimism}
