"""DoG."""

from ..fields import choice, nonnegative, positive, rate
from ..rule import Rule
from ..slots import COPY, model


class DoG(Rule, decay="l2", time_dependence="none", first_step="init_step_value"):
    """Gradient descent that finds its own learning rate, distance over gradients; leave learning_rate at 1.

    r = max(r, |p - p0|, r0)                              (norms are over all parameters)
    G = G + |g|^2                                         (g includes weight_decay * p)
    p = p - lr * r / sqrt(G + eps) * g
    r0 = init_step_value * (1 + |p0|) for "heuristic", init_step_value for "distance", 0 for "learning_rate", where
        init_step_value stands for r / sqrt(G + eps) until the parameters have moved

    Evaluate an average of the parameters: without one the last steps, which nothing shortens, are too long.

    Paper: Ivgi, Hinder, Carmon 2023, arXiv 2302.12022.
    Differs from the paper: nothing; "learning_rate" is its authors' init_eta.
    """

    learning_rate = rate(1.0)
    init_step_type = choice("heuristic", "what init_step_value is", "heuristic", "distance", "learning_rate")
    init_step_value = positive(1e-6, "first distance, alone or for 1 + |p0|, or first learning rate")
    eps = nonnegative(1e-8, "added to the sum of squared norms of gradients")
    matches = {"optax": {}}

    def coefficients(self, math, t):
        kinds = {"heuristic": "relative", "distance": "start", "learning_rate": "first_rate"}
        return dict.fromkeys(kinds.values(), 0.0) | {kinds[self.init_step_type]: self.init_step_value}

    def update(self, xp, p, g, p0: COPY, max_dist: model(), sum_sq_norm_grads: model(), /,
               learning_rate, relative, start, first_rate, eps, zero, one):  # fmt: skip
        way = p - p0
        start = start + relative * (one + xp.sqrt(xp.total(p0 * p0)))
        max_dist = xp.maximum(xp.maximum(max_dist, start), xp.sqrt(xp.total(way * way)))
        sum_sq_norm_grads = sum_sq_norm_grads + xp.total(g * g)
        divisor = xp.sqrt(sum_sq_norm_grads + eps)
        eta = xp.where(max_dist <= zero, first_rate, max_dist / xp.where(divisor <= zero, one, divisor))
        return learning_rate * eta * g, p0, max_dist, sum_sq_norm_grads
