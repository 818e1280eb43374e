"""COCOB."""

from ..fields import positive, rate
from ..rule import Rule
from ..slots import NONNEGATIVE, slot


class COCOB(Rule, decay="l2"):
    """Needs no learning rate: each element bets on its gradient, as much as it has won so far allows.

    g = lr * g                                    (g includes weight_decay * p, before)
    L = max(L, |g|);   G = G + |g|;   R = max(0, R - g * (p - p0));   C = C - g        (L is eps at first)
    p = p0 + C / (L * max(G + L, alpha * L)) * (L + R)                                 (p0 is the first parameter)

    Paper: Orabona, Tommasi 2017, arXiv 1705.07795.
    Differs from the paper: gradients are multiplied by the learning rate, which is 1, as in optax.
    """

    learning_rate = rate(1.0)
    alpha = positive(100.0, "an element's first steps are no longer than 1 / alpha")
    eps = positive(1e-8, "least size of gradients")
    #: optax compares complex numbers by their real parts.
    matches = {"optax": {"moduli": None}}

    def coefficients(self, math, t):
        return {}

    def update(self, xp, p, g, init_particles: slot(initial="parameter", block_dtype=None),
               cumulative_gradients: slot(block_dtype=None), scale: slot(initial="eps", block_dtype="uint8"),
               subgradients: NONNEGATIVE, reward: NONNEGATIVE, /, learning_rate, alpha, zero, one):  # fmt: skip
        g, away = learning_rate * g, p - init_particles
        scale, subgradients = xp.maximum(scale, xp.abs(g)), subgradients + xp.abs(g)
        reward, cumulative_gradients = xp.maximum(reward - g * away, zero), cumulative_gradients - g
        largest = xp.where(scale <= zero, one, scale)  # eps may be 0 in 16 bits
        bet = cumulative_gradients / xp.maximum(subgradients + largest, alpha * largest) * (one + reward / largest)
        return away - bet, init_particles, cumulative_gradients, scale, subgradients, reward
