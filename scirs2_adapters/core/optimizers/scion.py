"""Scion."""

from ..fields import choice, count, fraction, nonnegative, numbers_tuple, positive
from ..formulas import ema
from ..matrix import INPUTS_FIRST, OUTPUTS_FIRST
from ..newton_schulz import orthogonalize
from ..rule import Rule
from ..slots import slot
from ._muon_fields import NAMED, MatrixRule


class Scion(Rule, time_dependence="none"):
    """Steps of one length in a norm that is chosen for each kind of layer, inside a ball of that norm.

    b = b + (1 - momentum) * (g - b)                                          (b = g where momentum is 0)
    u = sqrt(outputs / inputs) * orthogonalize(b) for "spectral", sign(b) / inputs for "sign"
    p = p - (lr * weight_decay * p + lr * radius * u)

    A vector is a matrix of one input, so that its u is b / sqrt(mean(b * b)) for "spectral". The authors give the last
    layer, and an embedding, norm="sign" and a larger radius, in a group of its own. A weight_decay of 1 keeps
    parameters within the radius; 0 is the unconstrained form.

    Paper: Pethick et al. 2025, arXiv 2502.07529.
    Differs from the paper: momentum is the part that is kept, 0.9 where the authors' code has 0.1; a kernel's scale is
    that of its matrix, and not divided by the kernel's width once more.
    """

    momentum = fraction(0.9, "decay rate of the average of gradients", structural=True)
    radius = positive(1.0, "length of a step in units of the learning rate, and of the ball")
    norm = choice("spectral", "norm in which steps have one length", "spectral", "sign")
    ns_coefficients = numbers_tuple((3.4445, -4.7750, 2.0315), "polynomial of the Newton-Schulz iteration")
    ns_steps = count(5, "number of Newton-Schulz iterations", static=True)
    ns_schedule = choice("constant", MatrixRule.fields["ns_schedule"].means, *NAMED)
    eps = positive(1e-7, "least norm by which the iteration divides")
    weight_decay = nonnegative(1.0, "weight decay, times the learning rate")
    layout = choice(None, MatrixRule.fields["layout"].means, OUTPUTS_FIRST, INPUTS_FIRST)
    batch_axes = count(0, MatrixRule.fields["batch_axes"].means, static=True, least=0)
    by_name = "layer"
    matrix, view, leaf_key = MatrixRule.matrix, MatrixRule.view, MatrixRule.leaf_key

    def coefficients(self, math, t):
        return {"gain": 1 - self.momentum, **dict(zip("abc", self.ns_coefficients, strict=True))}

    def leaf_coefficients(self, leaf):
        inputs, outputs = (max(1, side) for side in self.matrix(leaf).sides(leaf.shape))
        return {"scale": 1 / inputs if self.norm == "sign" else (outputs / inputs) ** 0.5}

    def update(self, xp, p, g, momentum_buffer: slot("momentum"), /,
               learning_rate, radius, gain, a, b, c, eps, scale):  # fmt: skip
        if momentum_buffer is not None:
            g = momentum_buffer = ema(momentum_buffer, g, gain)
        return learning_rate * radius * scale * self._direction(xp, g, eps, a, b, c), momentum_buffer

    def _direction(self, xp, x, *of_iteration):
        if self.norm == "sign":
            return xp.sign(x)
        return xp.matrix(orthogonalize, x, *of_iteration, steps=self.ns_steps, schedule=self.ns_schedule, exact=True)
