"""AMSGrad."""

from ..fields import flag
from .adam import Adam


class AMSGrad(Adam):
    """Adam that divides by the largest mean of squares so far, so that steps along an element never grow.

    m = m + (1 - beta1) * (g - m)                 (g includes weight_decay * p)
    v = v + (1 - beta2) * (g * g - v)
    w = max(w, v)
    p = p - lr * m / (1 - beta1^t) / (sqrt(w / (1 - beta2^t) + eps_root) + eps)

    Paper: Reddi, Kale, Kumar 2018, arXiv 1904.09237.
    Differs from the paper: m and w are corrected for their beginning, as PyTorch's Adam with amsgrad=True has them.
    """

    amsgrad = flag(True, "divide by the largest mean of squares so far")
    matches = {"optax": {}}
