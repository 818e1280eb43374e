"""Rprop."""

from ..fields import nonnegative, number, positive, rate
from ..rule import Rule
from ..slots import NONNEGATIVE


class Rprop(Rule, decay="l2"):
    """Steps by the sign of the gradient; an element's step grows while its sign stays and shrinks when it turns.

    s = s * (eta_plus if g * g' > 0 else eta_minus if g * g' < 0 else 1), kept in [min_step_size, max_step_size]
    g = 0 where g * g' < 0                        (s is learning_rate at first; g' is the last g)
    p = p - s * sign(g)

    For gradients of the whole data: the noise of a batch turns signs. In optax each step is taken one step late.

    Paper: Riedmiller, Braun 1993, IEEE ICNN.
    Differs from the paper: where the sign turns, the last step is not taken back, as in PyTorch (iRprop-).
    """

    learning_rate = rate(1e-2)
    eta_minus = number(0.5, "factor of the step where the sign turns", "must be in (0, 1)", lambda v: 0 < v < 1)
    eta_plus = number(1.2, "factor of the step where the sign stays", "must be > 1 and finite", lambda v: 1 < v < 1e300)
    min_step_size = nonnegative(1e-6, "least step of an element")
    max_step_size = positive(50.0, "largest step of an element")
    #: optax clips what complex numbers would make of the sizes of steps, which JAX refuses.
    matches = {"torch": {}, "optax": {"late": True, "moduli": None}}

    def coefficients(self, math, t):
        return {"lr": self.learning_rate, "low": self.min_step_size, "high": self.max_step_size}

    def update(self, xp, p, g, prev, step_size: NONNEGATIVE, /, lr, eta_minus, eta_plus, low, high, zero):
        d, size = g * prev, xp.where(step_size > zero, step_size, lr)  # a step of 0, made when lr was, is none
        grown = xp.where(d > zero, eta_plus * size, xp.where(d < zero, eta_minus * size, size))
        step_size = xp.where(size > zero, xp.minimum(xp.maximum(grown, low), high), size)
        u, h = xp.where(d < zero, zero, step_size * xp.sign(g)), xp.where(d < zero, zero, prev if self.late else g)
        return *((h, u) if self.late else (u, h)), step_size
