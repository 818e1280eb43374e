"""SOAP."""

from ..fields import count, fraction, nonnegative, positive, rate
from ..formulas import ema, one_minus_power
from ..slots import slot, square
from ._grams import GramRule


class SOAP(GramRule, decay="inside", moduli=None):
    """Adam along the eigenvectors of Shampoo's preconditioner, which are computed anew every few steps.

    r = QL.T @ g @ QR;   m = m + (1 - beta1) * (r - m);   v = v + (1 - beta2) * (r * r - v)
    u = lr * sqrt(1 - beta2^(t-1)) / (1 - beta1^(t-1)) * QL @ (m / (sqrt(v) + eps)) @ QR.T
    p = p - u;   p = p - lr * weight_decay * p
    L = L + (1 - shampoo_beta) * (g @ g.T - L);   R = R + (1 - shampoo_beta) * (g.T @ g - R)
    QL, QR = eigenvectors of L, R: at the first step, which does nothing else; then by one QR decomposition of L @ QL
        and R @ QR every precondition_frequency steps, when m is turned with them

    A side longer than max_precond_dim has no L or R, and vectors have none: there this is Adam. Kernels of more than
    two axes are matrices of their outputs by all else.

    Paper: Vyas et al. 2024, arXiv 2409.11321.
    Differs from the paper: follows its authors' code, which does not move at the first step and decays what has moved
    already. Theirs has a matrix for each axis of a kernel. The paper turns m at each step, which is the same.
    """

    learning_rate = rate(3e-3)
    beta1 = fraction(0.95, "decay rate of the mean of gradients")
    beta2 = fraction(0.95, "decay rate of the mean of squared gradients along the eigenvectors")
    shampoo_beta = fraction(None, "decay rate of the mean of Gram matrices; None is beta2")
    eps = positive(1e-8, "added to the root")
    weight_decay = nonnegative(0.01, "weight decay, times the learning rate")
    precondition_frequency = count(10, "so many steps are between two QR decompositions")

    def coefficients(self, math, t):
        later, count = math.where(t > 1, 1.0, 0.0), math.maximum(t - 1, 1)
        corrections = one_minus_power(math, self.beta1, count), one_minus_power(math, self.beta2, count)
        return {
            "gain1": later * (1 - self.beta1), "gain2": later * (1 - self.beta2),
            "gain": 1 - (self.beta2 if self.shampoo_beta is None else self.shampoo_beta),
            "step_size": later * self.learning_rate * math.sqrt(corrections[1]) / corrections[0],
            "shrinkage": later * self.learning_rate * self.weight_decay,
            "first": 1 - later, "due": math.where((t - 1) % self.precondition_frequency == 0, later, 0.0),
        }  # fmt: skip

    def update(self, xp, p, g, exp_avg: slot(wide_if="turns"), exp_avg_sq: slot(block_dtype="uint8", wide_if="turns"),
               gram_left: square(-2, "left"),
               gram_right: square(-1, "right"), basis_left: square(-2, "left"), basis_right: square(-1, "right"), /,
               gain1, gain2, gain, step_size, shrinkage, eps, first, due):  # fmt: skip
        along = self.turned(xp, g, basis_left, basis_right)
        exp_avg, exp_avg_sq = ema(exp_avg, along, gain1), ema(exp_avg_sq, along * along, gain2)
        direction = exp_avg / (xp.sqrt(exp_avg_sq) + eps)
        u = step_size * self.turned_back(xp, direction, basis_left, basis_right)
        grams = self.moved(xp, g, gain, gram_left, gram_right)
        bases = self.eigenbases(xp, g, first, due, *grams, basis_left, basis_right)
        exp_avg = self.rebased(xp, exp_avg, due, (basis_left, basis_right), bases)
        return u + shrinkage * (p - u), exp_avg, exp_avg_sq, *grams, *bases
