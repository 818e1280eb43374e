"""SignSGD."""

from ..fields import rate
from ..match import OptaxState
from ..rule import Rule


class SignSGD(Rule, time_dependence="none"):
    """The sign of the gradient: every element moves by lr, whatever the size of its gradient. It keeps no memory.

    p = p - (lr * weight_decay * p + lr * sign(g))

    Paper: Bernstein, Wang, Azizzadenesheli, Anandkumar 2018, arXiv 1802.04434.
    Differs from the paper: weight decay, which it does not have, is decoupled.
    """

    learning_rate = rate(1e-4)
    matches = {"optax": {}}
    optax_state = OptaxState("EmptyState", {})

    def coefficients(self, math, t):
        return {}

    def update(self, xp, p, g, /, learning_rate):
        return learning_rate * xp.sign(g)
