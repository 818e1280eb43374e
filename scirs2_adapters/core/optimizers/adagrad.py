"""Adagrad."""

from ..fields import nonnegative, rate
from ..formulas import places
from ..match import OptaxState
from ..rule import Rule
from ..slots import slot


class Adagrad(Rule, decay="l2", sparse="exact"):
    """Gradients divided by the root of the sum of all their squares: rare features keep large steps.

    s = s + g * g                                 (g includes weight_decay * p; s is initial_accumulator_value at first)
    p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    Paper: Duchi, Hazan, Singer 2011, JMLR 12.
    Differs from the paper: eps is added to the root as in PyTorch; optax and Keras add it under the root.
    """

    learning_rate = rate(1e-2)
    lr_decay = nonnegative(0.0, "decay of the step size with the number of steps")
    initial_accumulator_value = nonnegative(0.0, "first value of the sums of squares")
    eps = nonnegative(1e-10, "added to the root")
    others = {"initial_accumulator_value": 0.1, "eps_place": "inside"}
    matches = {"torch": {}, "optax": others | {"eps": 1e-7}, "keras": others | {"learning_rate": 1e-3}}
    optax_state = OptaxState("ScaleByRssState", {"sum_of_squares": "sum"}, unless=("lr_decay",))

    def coefficients(self, math, t):
        return {**places(self), "lr": self.learning_rate / (1 + (t - 1) * self.lr_decay)}

    def update(self, xp, p, g, sum: slot(initial="initial_accumulator_value", block_dtype="uint8"), /, lr, root, eps):
        sum = sum + g * g
        return lr * g / (xp.sqrt(sum + root) + eps), sum
