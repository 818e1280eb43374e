"""DoWG."""

from dataclasses import replace

from ..fields import positive, rate
from ..rule import Rule
from ..slots import COPY, model


class DoWG(Rule, decay="l2", time_dependence="none", first_step="init_estim_sq_dist"):
    """Gradient descent that finds its own learning rate, distance over weighted gradients; leave learning_rate at 1.

    r2 = max(r2, |p - p0|^2, init_estim_sq_dist)          (norms are over all parameters)
    v = v + r2 * |g|^2                                    (g includes weight_decay * p)
    p = p - lr * r2 / (sqrt(v) + eps) * g

    Paper: Khaled, Mishchenko, Jin 2023, arXiv 2305.16284.
    Differs from the paper: eps is that of its authors' code, where it is the first squared distance too.
    """

    learning_rate = rate(1.0)
    init_estim_sq_dist = replace(positive(1e-4, "first squared distance; None is eps"), optional=True)
    eps = positive(1e-4, "added to the root")
    matches = {"optax": {"init_estim_sq_dist": None}}

    def refuses(self, leaf, spell=str):
        if self.init_estim_sq_dist is not None:
            return super().refuses(leaf, spell)
        return Rule.refuses(self.replace_unchecked({self.first_step: self.eps}), leaf, lambda _: spell("eps"))

    def coefficients(self, math, t):
        return {"start": self.eps if self.init_estim_sq_dist is None else self.init_estim_sq_dist}

    def update(self, xp, p, g, p0: COPY, estim_sq_dist: model(), weighted_sq_norm_grads: model(), /,
               learning_rate, start, eps):  # fmt: skip
        way = p - p0
        estim_sq_dist = xp.maximum(xp.maximum(estim_sq_dist, start), xp.total(way * way))
        weighted_sq_norm_grads = weighted_sq_norm_grads + estim_sq_dist * xp.total(g * g)
        eta = estim_sq_dist / (xp.sqrt(weighted_sq_norm_grads) + eps)
        return learning_rate * eta * g, p0, estim_sq_dist, weighted_sq_norm_grads
