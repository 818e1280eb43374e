"""NovoGrad."""

from ..fields import fraction, nonnegative
from ..formulas import ema, heavy_ball
from ..match import OptaxState
from ..rule import Rule
from ..slots import scalar


class NovoGrad(Rule, decay="inside", time_dependence="none"):
    """Momentum of gradients that are divided, tensor by tensor, by a mean of their norms: half of Adam's memory.

    v = v + (1 - beta2) * (|g|^2 - v)             (one number for the tensor; |g|^2 where v is 0, as at first)
    m = beta1 * m + g / (sqrt(v + eps_root) + eps) + weight_decay * p
    p = p - lr * m

    Paper: Ginsburg et al. 2019, arXiv 1905.11286.
    Differs from the paper: v begins with the first gradient that is not 0; in optax with that of step 1. Weight decay
    is in m, and so acts 1 / (1 - beta1) times as much as elsewhere.
    """

    beta1 = fraction(0.95, "what is left of the momentum in each step")
    beta2 = fraction(0.98, "decay rate of the mean of squared norms")
    eps = nonnegative(1e-8, "added to the root")
    eps_root = nonnegative(0.0, "added under the root")
    #: Whether v begins at step 1, whenever the first gradient comes.
    begins_at_step_1 = False
    matches = {
        "optax": {"beta1": 0.9, "beta2": 0.25, "eps": 1e-6, "begins_at_step_1": True, "time_dependence": "first"},
    }  # fmt: skip
    optax_state = OptaxState("ScaleByNovogradState", {"count": "count", "mu": "exp_avg", "nu": "exp_avg_sq"})

    def coefficients(self, math, t):
        return {"gain": math.where(t == 1, 1.0, 1 - self.beta2) if self.begins_at_step_1 else 1 - self.beta2}

    def update(self, xp, p, g, exp_avg, exp_avg_sq: scalar(), /,
               learning_rate, weight_decay, beta1, gain, eps, eps_root, zero):  # fmt: skip
        norm = xp.norm(g)
        square, moved = norm * norm, ema(exp_avg_sq, norm * norm, gain)
        exp_avg_sq = moved if self.begins_at_step_1 else xp.where(exp_avg_sq <= zero, square, moved)
        exp_avg = heavy_ball(exp_avg, beta1, g / (xp.sqrt(exp_avg_sq + eps_root) + eps) + weight_decay * p)
        return learning_rate * exp_avg, exp_avg, exp_avg_sq
