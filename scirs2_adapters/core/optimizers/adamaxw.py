"""Adamax with decoupled weight decay."""

from dataclasses import replace

from ..fields import nonnegative
from .adamax import Adamax


class AdamaxW(Adamax, decay="decoupled"):
    """Adamax whose weight decay acts on the parameter and not on the moments.

    m = m + (1 - beta1) * (g - m)
    u = max(beta2 * u, |g| + eps)
    p = p - (lr * weight_decay * p + lr / (1 - beta1^t) * m / u)

    Paper: Kingma, Ba 2014, arXiv 1412.6980, algorithm 2; weight decay: Loshchilov, Hutter 2017, arXiv 1711.05101.
    Differs from the paper: eps, which it does not have, is inside the maximum; the decay is times the learning rate
    and as large as in optax.
    """

    weight_decay = nonnegative(1e-4, "weight decay, times the learning rate")
    matches = {"optax": {}}
    optax_state = replace(Adamax.optax_state, decays="after")
