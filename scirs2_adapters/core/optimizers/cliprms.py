"""Clipping by the root mean square of a tensor, before any optimizer."""

from ..fields import positive
from ..wrapper import Wrapper


class ClipRMS(Wrapper):
    """The base with gradients whose root mean square over a tensor is bounded, so that no layer waits for another, as
    with a norm of all gradients, and none is bounded more for its size.

    g = g / max(1, rms(g) / max_rms)

    Paper: Shazeer, Stern 2018, arXiv 1804.04235.
    Differs from the paper: it clips gradients, as optax.clip_by_block_rms does, and not steps.
    """

    max_rms = positive(1.0, "largest root mean square of the gradient of a tensor")

    def wrap_gradient(self, xp, g, p, /, max_rms, one):
        return g / xp.maximum(one, xp.sqrt(xp.mean(g * g)) / max_rms)
