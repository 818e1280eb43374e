"""NorMuon, with AdamW for what is not a hidden matrix."""

from ..fields import choice, flag, fraction, nonnegative, rate
from ..formulas import ema
from ..slots import LAST, row
from ._muon_fields import ADJUST, NAMED, MatrixRule


class NorMuon(MatrixRule, time_dependence="none"):
    """Muon whose steps are divided, neuron by neuron, by the root of a running mean of their squares.

    b = b + (1 - momentum) * (g - b)
    u = g + momentum * (b - g) if nesterov else b
    o = orthogonalize(u);   r = mean(o * o) of each neuron
    v = v + (1 - beta2) * (r - v)
    n = o / (sqrt(v) + variance_eps)
    p = p - (lr * weight_decay * p + lr * scale * n * norm(o) / norm(n))

    A neuron is an output of the layer, and its mean is over inputs. With neurons="longer" it is what lies along the
    longer side, an output or an input, and n = o / sqrt(max(v, 1e-10)), as in modded-nanogpt and nanochat. Scales and
    the AdamW part are Muon's. Kernels of more than two axes that are no stack of matrices are stepped by AdamW.

    Paper: Li et al. 2025, arXiv 2510.05491.
    Differs from the paper: the scale is by default that of the authors' code in the library dion, sqrt(outputs /
    inputs), and the iteration that of Polar Express.
    """

    learning_rate = rate(0.01)
    nesterov = flag(False, "look ahead along the average")
    ns_schedule = choice("polar_express", MatrixRule.fields["ns_schedule"].means, *NAMED)
    adjust = choice("spectral_norm", "scale of the step by the matrix's shape", *ADJUST)
    weight_decay = nonnegative(0.01, "weight decay, times the learning rate; for both parts")
    beta2 = fraction(0.95, "decay rate of the mean of squares")
    variance_eps = nonnegative(1e-8, 'added to the root of the mean of squares, with neurons="outputs"')
    neurons = choice("outputs", "of what the means of squares are", "outputs", "longer")

    def coefficients(self, math, t):
        least, added = (0.0, self.variance_eps) if self.neurons == "outputs" else (1e-10, 0.0)
        scalars = {"gain2": 1 - self.beta2, "least": least, "added": added, "tiny": 1e-30}
        return super().coefficients(math, t) | scalars

    def unwanted(self, leaf):
        flattened = not self.matrix(leaf)._replace(parts=1).lies_so
        return super().unwanted(leaf) or ("a kernel of more than two axes" if flattened else "")

    def axes(self, leaf):
        matrix = self.matrix(leaf)
        if not matrix.lies_so:
            return LAST
        inputs, outputs = matrix.sides(leaf.shape)
        neurons = matrix.outputs if self.neurons == "outputs" or outputs >= inputs else matrix.inputs
        return (*neurons, -3 - sum(neurons))

    def update(self, xp, p, g, momentum_buffer, variance: row(), /,
               learning_rate, gain, mix, a, b, c, eps, scale, gain2, least, added, tiny, one):  # fmt: skip
        u, momentum_buffer = self.averaged(g, momentum_buffer, gain, mix)
        o = self.orthogonal(xp, u, eps, a, b, c)
        square = xp.mean(o * o, -1)
        variance = ema(variance, square, gain2)
        inverse = one / (xp.sqrt(xp.maximum(variance, least)) + added)
        kept = xp.sqrt(xp.mean(square, -2) / xp.maximum(xp.mean(square * inverse * inverse, -2), tiny))
        return learning_rate * scale * o * (inverse * kept), momentum_buffer, variance
