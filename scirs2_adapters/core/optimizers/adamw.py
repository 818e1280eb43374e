"""Adam with decoupled weight decay."""

from ..fields import nonnegative
from .adam import Adam


class AdamW(Adam, decay="decoupled"):
    """Adam whose weight decay acts on the parameter and not on the moments.

    m = m + (1 - beta1) * (g - m)
    v = v + (1 - beta2) * (g * g - v)
    p = p - (lr * weight_decay * p + lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t) + eps_root) + eps))

    Paper: Loshchilov, Hutter 2017, arXiv 1711.05101.
    Differs from the paper: the decay is multiplied by the learning rate, as every framework has it.
    """

    weight_decay = nonnegative(1e-2, "weight decay, times the learning rate")
    matches = {"torch": {}, "optax": {"weight_decay": 1e-4}, "keras": {"eps_place": "hat", "weight_decay": 4e-3}}
