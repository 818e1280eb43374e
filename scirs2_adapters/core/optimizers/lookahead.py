"""Lookahead around any optimizer."""

from ..fields import count, fraction
from ..slots import COPY
from ..wrapper import Wrapper


class Lookahead(Wrapper):
    """A slow copy of the parameters that every sync_period steps moves part of the way to the fast ones, which restart
    from it.

    p = step of the base optimizer
    every sync_period steps:  slow = slow + slow_step_size * (p - slow);   p = slow

    Paper: Zhang, Lucas, Hinton, Ba 2019, arXiv 1907.08610.
    Differs from the paper: nothing. The base optimizer's memory is kept at a synchronization.
    """

    sync_period = count(5, "steps of the base between two synchronizations")
    slow_step_size = fraction(0.5, "part of the way that the slow copy moves")

    def wrap_coefficients(self, math, t):
        return {"sync": math.where(t % self.sync_period == 0, 1.0, 0.0), "pull": self.slow_step_size}

    def wrap(self, xp, p, slow: COPY, /, sync, pull, zero):
        moved = slow + pull * (p - slow)
        return xp.where(sync > zero, moved, p), xp.where(sync > zero, moved, slow)
