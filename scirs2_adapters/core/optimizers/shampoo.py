"""Shampoo."""

from ..fields import choice, count, fraction, nonnegative, positive, rate, weight
from ..formulas import accumulation, ema, one_minus_power
from ..slots import slot, square
from ._grams import GramRule


class Shampoo(GramRule, moduli=None):
    """Gradients times inverse roots of their Gram matrices, in steps as long as another method's.

    m = m + (1 - beta1) * (g - m);   v = v + (1 - grafting_beta2) * (g * g - v)
    L = L + (1 - beta2) * (g @ g.T - L);   R = R + (1 - beta2) * (g.T @ g - R)
    PL, PR = (C + eps * c * I)^(-inverse_exponent), where C is L / (1 - beta2^t), R / (1 - beta2^t), and c its largest
        eigenvalue: at start_preconditioning_step, and then every precondition_frequency steps
    d = m / (1 - beta1^t) / (sqrt(v / (1 - grafting_beta2^t)) + grafting_eps);   s = PL @ m @ PR
    p = p - lr * (weight_decay * p + s * norm(d) / (norm(s) + 1e-16))

    Before start_preconditioning_step, and of vectors always, the step is d, which is AdamW's. grafting="rmsprop" does
    not divide v, "sgd" has d = m / (1 - beta1^t), and with "none" the step is s / (1 - beta1^t). A beta2 of 1 makes a
    sum in place of a corrected mean, and the slot holds the t-th part of it. A side longer than max_precond_dim has no
    L or R, and the power of the other side is twice as large.

    Paper: Gupta, Koren, Singer 2018, arXiv 1802.09568; grafting: Anil et al. 2020, arXiv 2002.09018.
    Differs from the paper: means of Gram matrices, corrected, in place of sums, m in place of g, decoupled decay and
    roots that are not made at every step are those of facebookresearch/optimizers; eps relative to an eigenvalue, in
    place of a start at eps * I, and the power of one side alone those of google-research's scalable_shampoo. Vectors
    have no Gram matrix. Kernels of more than two axes are matrices of their outputs by all else, and not of each axis.
    Both codes cut a side that is too long into blocks.
    """

    learning_rate = rate(1e-3)
    beta1 = fraction(0.9, "decay rate of the mean of gradients")
    beta2 = weight(0.999, "decay rate of the mean of Gram matrices; 1 makes a sum")
    eps = positive(1e-6, "added to eigenvalues, times the largest")
    precondition_frequency = count(10, "so many steps are between two roots")
    start_preconditioning_step = count(10, "first step with roots")
    inverse_exponent = positive(0.25, "minus the power of two Gram matrices; of one alone it is twice that")
    grafting = choice("adam", "method whose length steps have", "adam", "rmsprop", "sgd", "none")
    grafting_beta2 = weight(0.999, "decay rate of that method's mean of squares; 1 makes a sum")
    grafting_eps = nonnegative(1e-8, "added to the root of the mean of squares")

    def scaled(self, leaf):
        """Whether the method whose length steps have divides by a root of squares."""
        return self.grafting in ("adam", "rmsprop")

    def coefficients(self, math, t):
        gain, scale = accumulation(math, self.beta2, t)
        gain2, scale2 = accumulation(math, self.grafting_beta2, t, corrected=self.grafting == "adam")
        ready = math.where(t >= self.start_preconditioning_step, 1.0, 0.0)
        return {
            "gain1": 1 - self.beta1, "gain2": gain2, "scale2": scale2, "gain": gain, "scale": scale,
            "lr": self.learning_rate / one_minus_power(math, self.beta1, t), "ready": ready, "least": 1e-16,
            "due": math.where((t - self.start_preconditioning_step) % self.precondition_frequency == 0, ready, 0.0),
        }  # fmt: skip

    def leaf_coefficients(self, leaf):
        return {"exponent": -(1 if self.left(leaf) and self.right(leaf) else 2) * self.inverse_exponent}

    def grafted(self, xp, s, d, least):
        """s, as long as d if there is a method whose length steps have."""
        return s if self.grafting == "none" else xp.norm(d) / (xp.norm(s) + least) * s

    def update(self, xp, p, g, exp_avg: slot(wide_if="turns", accurate=True),
               exp_avg_sq: slot("scaled", block_dtype="uint8", wide_if="turns"), gram_left: square(-2, "left"),
               gram_right: square(-1, "right"), root_left: square(-2, "left"), root_right: square(-1, "right"), /, lr,
               gain1, gain2, scale2, gain, scale, eps, exponent, grafting_eps, due, ready, least, zero):  # fmt: skip
        exp_avg = u = ema(exp_avg, g, gain1)
        if exp_avg_sq is not None:
            exp_avg_sq = ema(exp_avg_sq, g * g, gain2)
            u = exp_avg / (xp.sqrt(exp_avg_sq * scale2) + grafting_eps)
        grams = self.moved(xp, g, gain, gram_left, gram_right)
        roots = self.powers(xp, due, ready, scale, eps, exponent, grams, (root_left, root_right))
        if root_left is not None or root_right is not None:
            s = self.turned_back(xp, exp_avg, *roots)
            u = xp.where(ready > zero, self.grafted(xp, s, u, least), u)
        return lr * u, exp_avg, exp_avg_sq, *grams, *roots
