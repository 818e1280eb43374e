"""Rules that take estimates of the curvature between their steps."""

from ..fields import flag
from ..rule import Rule


class Estimated(Rule):
    """A rule whose step, with `estimating`, takes the gradient for an estimate: it must leave the parameter then."""

    estimating = flag(False, "take the gradient for the curvature, and leave the parameter", structural=False)

    @property
    def decay(self):
        """Nothing decays at an estimate."""
        return "inside" if self.estimating else "decoupled"
