"""Kron."""

from ..fields import flag, fraction, nonnegative, number, positive
from ..formulas import ema, one_minus_power
from ..slots import diagonal, slot, square
from ._kron_fields import KroneckerRule


class Kron(KroneckerRule, moduli=None):
    """PSGD: momentum times a Kronecker product of two matrices, which learn to make gradients like white noise.

    m = m + (1 - beta1) * (g - m);   n = m / (1 - beta1^t);   s = QL.T @ QL @ n @ QR.T @ QR
    p = p - lr * (weight_decay * p + s / max(1, sqrt(mean(s * s)) / 1.1))
    V = numbers by chance of variance 1;   A = QL @ (n + 2^-11.5 * mean(abs(n)) * V) @ QR.T;   B = QL^-T @ V @ QR^-1
    QL = QL - precond_lr * triu(A @ A.T - B @ B.T) @ QL / norm(A @ A.T + B @ B.T), and QR by A.T and B.T in place of A
        and B, before each step whose number is a multiple of w = ceil(1 / preconditioner_update_probability)

    QL and QR are triangular, and at first the identity, times the root of precond_init_scale. Of a side longer than
    max_size_triangular, of what memory_save_mode says and of vectors, which have one of them, they are diagonal. Where
    no probability is set it is 1 for 500 steps, and then falls by 0.1 % a step to 0.03. At multiples of 100 w they are
    made as large as each other. With momentum_into_precond_update=False they learn from g. With normalize_grads g is
    divided by norm(g) + 1e-16 before all else. Kernels of more than two axes are matrices of their outputs by all else.

    Paper: Li 2015, arXiv 1512.04202; Kronecker products: Li 2018, arXiv 1809.10232.
    Differs from the paper: follows kron_torch and psgd_jax, where the norm is a lower bound of the spectral one. V is
    evenly spread and not normal, so that every framework has the same bits. Both count steps from the last at which Q
    learned, balance by chance, have another matrix of a kernel or a factor for each axis, and let Q grow without end
    where gradients are 0, of which it learns nothing here. kron_torch does not decay vectors, and leaves V in n.
    normalize_grads is that of psgd_jax 0.2.8 and of Levanter; later versions and kron_torch have none.
    """

    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    precond_lr = nonnegative(0.1, "step size of the preconditioner")
    precond_init_scale = positive(1.0, "size of the preconditioner's factors at first, multiplied")
    preconditioner_update_probability = number(
        None, "part of all steps at which the preconditioner learns; None falls from 1 to 0.03 by step 4000",
        "must be in (0, 1]", lambda v: 0 < v <= 1,
    )  # fmt: skip
    momentum_into_precond_update = flag(True, "learn from the mean of gradients", structural=False)
    normalize_grads = flag(False, "divide the gradient of each parameter by its norm", structural=False)

    def coefficients(self, math, t):
        probability = self.preconditioner_update_probability
        if probability is None:
            probability = math.minimum(1.0, math.maximum(0.03, math.exp(-0.001 * (t - 501))))
        wait = -(-1 / probability // 1)
        return {
            "gain": 1 - self.beta1, "scale1": 1 / one_minus_power(math, self.beta1, t), "turn": t % 2**24, "most": 1.1,
            "tiny": 1e-16,
            "due": math.where(t % wait == 0, 1.0, 0.0),
            "balanced": math.where(t % (100 * wait) == 0, 1.0, 0.0),
        }  # fmt: skip

    def update(self, xp, p, g, exp_avg: slot(block_dtype=None, accurate=True),
               factor_left: square(-2, "triangular_left", triangular=True),
               factor_right: square(-1, "triangular_right", triangular=True),
               diagonal_left: diagonal(-2, "diagonal_left"), diagonal_right: diagonal(-1, "diagonal_right"), /,
               learning_rate, gain, scale1, scale, precond_lr, turn, due, balanced, most, tiny, one):  # fmt: skip
        g = g / (xp.norm(g) + tiny) if self.normalize_grads else g
        exp_avg = ema(exp_avg, g, gain)
        mean, slots = scale1 * exp_avg, (factor_left, factor_right, diagonal_left, diagonal_right)
        factors = self.ready(xp, slots, scale, balanced)
        seen = mean if self.momentum_into_precond_update else g
        factors = self.learned(xp, slots, factors, seen, due, turn, precond_lr)
        s = self.preconditioned(xp, mean, factors)
        size = xp.maximum(xp.sqrt(xp.mean(s * s)) / most, one)
        return learning_rate / size * s, exp_avg, *self.kept(slots, factors)
