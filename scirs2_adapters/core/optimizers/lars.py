"""LARS."""

from ..fields import flag, fraction, nonnegative, positive, rate
from ..formulas import heavy_ball, places
from ..rule import Rule
from ..slots import slot


class LARS(Rule, decay="inside", time_dependence="none", lr_in_buffer=True):
    """Momentum whose gradients have, tensor by tensor, the length of the parameter: made for very large batches.

    ratio = trust_coefficient * |p| / (|g| + weight_decay * |p| + eps)          (1 where |p| or the divisor is 0)
    b = momentum * b + lr * ratio * (g + weight_decay * p)
    p = p - (lr * ratio * (g + weight_decay * p) + momentum * b if nesterov else b)

    With adapt_vectors=False biases, gains and single numbers have the ratio 1, so that they are stepped by SGD.

    With match="optax" the divisor is |g + weight_decay * p| + eps.

    Paper: You, Gitman, Ginsburg 2017, arXiv 1708.03888.
    Differs from the paper: nothing. Apex and timm multiply what comes out of the buffer by the learning rate, which
    differs where it changes, and give the ratio to groups with weight decay alone.
    """

    learning_rate = rate(1.0)
    momentum = fraction(0.9, "weight of the past in the buffer; 0 keeps no buffer", structural=True)
    nesterov = flag(False, "look ahead along the buffer", structural=False)
    trust_coefficient = positive(1e-3, "multiplies the ratio of the norms")
    eps = nonnegative(0.0, "added to the divisor of the ratio")
    adapt_vectors = flag(True, "give the ratio to parameters of fewer than two axes too", structural=False)
    matches = {"optax": {"decay": "l2"}}

    def coefficients(self, math, t):
        return places(self) | {"wd": self.weight_decay if self.decay == "inside" else 0.0}

    def leaf_coefficients(self, leaf):
        return {"adapts": float(self.adapt_vectors or len(leaf.shape) > 1)}

    def update(self, xp, p, g, momentum_buffer: slot("momentum"), /,
               momentum, inside, lr, trust_coefficient, eps, wd, adapts, zero, one):  # fmt: skip
        p_norm = xp.norm(p)
        divisor = xp.norm(g) + wd * p_norm + eps
        ratio = trust_coefficient * p_norm / xp.where(divisor > zero, divisor, one)
        ratio = xp.where(adapts * p_norm > zero, xp.where(divisor > zero, ratio, one), one)
        step = inside * ratio * (g + wd * p)
        b = heavy_ball(momentum_buffer, momentum, step)
        return lr * (heavy_ball(b, momentum, step) if self.nesterov else b), b
