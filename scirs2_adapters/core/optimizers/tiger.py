"""Tiger."""

from ..fields import fraction, nonnegative, rate
from .signum import Signum


class Tiger(Signum):
    """Signum with the defaults of Tiger, which is Lion with one decay rate for both of its uses.

    m = m + (1 - momentum) * (g - m)
    p = p - (lr * weight_decay * p + lr * sign(m))

    Paper: Su 2023, kexue.fm/archives/9512.
    Differs from the paper: the learning rate is not multiplied by the root mean square of the parameter, and is the
    same for biases, as in pytorch_optimizer.
    """

    learning_rate = rate(1e-3)
    momentum = fraction(0.965, "decay rate of the mean of gradients")
    weight_decay = nonnegative(1e-2, "weight decay, times the learning rate")
    matches = {}
