"""GaLore."""

from ..fields import fraction, nonnegative
from ..formulas import adam_coefficients, ema
from ..projections import back, leading_vectors, onto
from ..slots import basis, low
from ._projected import ProjectedRule


class GaLore(ProjectedRule, eps_place="hat", moduli=None):
    """Adam on the gradient's part along its leading singular vectors, which are computed anew every so many steps.

    P = the first `rank` singular vectors of g along its shorter side, at steps 1, 1 + update_proj_gap, …
    r = g @ P;   m = m + (1 - beta1) * (r - m);   v = v + (1 - beta2) * (r * r - v)
    u = lr * scale * sqrt(1 - beta2^t) / (1 - beta1^t) * (m / (sqrt(v) + eps)) @ P.T
    p = p - (lr * weight_decay * p + u)

    A matrix is projected if both of its sides are longer than rank, and kernels of more than two axes as matrices of
    their outputs by all else. Anything else is stepped by AdamW, without the scale. Its authors do so with embeddings
    and heads too: give those a group with rank=0.

    Paper: Zhao et al. 2024, arXiv 2403.03507.
    Differs from the paper: follows its authors' code, where moments stay as they are when P changes, and eps is added
    to the uncorrected root. Theirs projects small matrices too, takes no kernels, and decays what has moved already.
    The sign of a singular vector is that by which its sum is not negative; theirs is LAPACK's.
    """

    beta1 = fraction(0.9, "decay rate of the mean of projected gradients")
    beta2 = fraction(0.999, "decay rate of the mean of squared projected gradients")
    eps = nonnegative(1e-6, "added to the root")
    eps_root = 0.0
    scale = nonnegative(0.25, "of the step of what is projected")
    matches = {
        "optax": {"eps": 1e-8, "eps_place": "outside", "scale": 1.0, "proj_type": "reverse_std", "kernels": False,
                  "small": True},
    }  # fmt: skip

    def coefficients(self, math, t):
        return adam_coefficients(self, math, t) | {"due": math.where((t - 1) % self.update_proj_gap == 0, 1.0, 0.0)}

    def update(self, xp, p, g, exp_avg: low(), exp_avg_sq: low("uint8"), projector: basis("projects"), /, step_size,
               one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps, scale, due):  # fmt: skip
        r = g
        if projector is not None:
            projector = xp.matrix(leading_vectors, projector, g, due)
            r = xp.matrix(onto, exp_avg, g, projector)
        exp_avg, exp_avg_sq = ema(exp_avg, r, one_minus_beta1), ema(exp_avg_sq, r * r, one_minus_beta2)
        u = step_size * exp_avg / (xp.sqrt(exp_avg_sq * inv_bias_correction2) + eps)
        if projector is not None:
            u = scale * xp.matrix(back, g, u, projector)
        return u, exp_avg, exp_avg_sq, projector
