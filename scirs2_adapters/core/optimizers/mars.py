"""Variance reduction before any optimizer."""

from ..fields import fraction, nonnegative
from ..wrapper import Wrapper


class MARS(Wrapper):
    """The base with gradients from which a part of their noise is taken, by how they have changed since the last step:
    MARS-AdamW, MARS-Lion and all others.

    c = g + mars_gamma * mars_beta / (1 - mars_beta) * (g - last g)
    g = c / max(1, |c|), |c| the norm of a tensor

    Paper: Yuan et al. 2024, arXiv 2411.10438.
    Differs from the paper: the last gradient is that of the last batch (its MARS-approx), and 0 at first, as in its
    authors' code. That code leaves vectors to AdamW.
    """

    mars_gamma = nonnegative(0.025, "strength of the reduction; 0 leaves the clipping alone")
    mars_beta = fraction(0.95, "decay rate of the momentum that is corrected, the base's beta1")

    def wrap_coefficients(self, math, t):
        return {"change": self.mars_gamma * self.mars_beta / (1 - self.mars_beta)}

    def wrap_gradient(self, xp, g, p, last_grad, /, change, one):
        c = g + change * (g - last_grad)
        return c / xp.maximum(one, xp.norm(c)), one * g  # which is no longer the memory of the gradient itself
