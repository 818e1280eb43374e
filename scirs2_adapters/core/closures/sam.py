"""SAM and ASAM around any optimizer."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Never

from ..fields import flag, nonnegative
from ..slots import Slot
from ..wrapper import Wrapper
from ._search import Search, Space, Vector, needs_closure

#: Added to the norm, where the gradient may be zero.
TINY = 1e-12


class SAM(Wrapper, needs_closure=True):
    """Steps by the gradient at the worst point near the parameters, which leads to flat minima: two evaluations of the
    model for each step of the base.

    e = rho * g / (|g| + 1e-12), rho the radius and |g| the norm over all parameters of all groups
    adaptive (ASAM):  e = rho * p^2 * g / (|p * g| + 1e-12)
    p = step of the base optimizer from p, with the gradient at p + e (p - e if it maximizes)

    Paper: Foret, Kleiner, Mobahi, Neyshabur 2021, arXiv 2010.01412; Kwon, Kim, Park, Choi 2021, arXiv 2102.11600.
    Differs from the paper: the norm is the 2-norm, and ASAM's eta is 0.
    """

    default_base = "sgd"
    radius = nonnegative(0.05, "how far away the worst point is sought")
    adaptive = flag(False, "measure distance relative to each parameter's size (ASAM)")

    def all_slots(self) -> tuple[Slot, ...]:
        return self.base.all_slots()

    def scalars(self, *args: object) -> Never:
        raise needs_closure(type(self).__name__)

    def measured(self, space: Space, p: Vector, g: Vector) -> Vector:
        """The gradient of one parameter as the norm sees it."""
        return space.abs(p) * g if self.adaptive else g

    def raised(self, space: Space, p: Vector, g: Vector, norm: float) -> Vector:
        """One parameter at the worst point."""
        way = -self.radius if self.base.maximize else self.radius
        return space.plus(p, way / (norm + TINY), p * p * g if self.adaptive else g)

    @staticmethod
    def search(space: Space, rules: Sequence[SAM], x: Iterable[Vector]) -> Search[Sequence[Vector | None]]:
        """The gradients to step by, from a list of parameters and of each one's rule; a gradient may be None.

        The second point is made while it is read, one parameter at a time, and the first gradients go meanwhile.
        """
        x = list(x)
        remaining = deque(zip(rules, x, (yield iter(x))[1], strict=True))
        norm = math.hypot(*(space.norm(rule.measured(space, p, g)) for rule, p, g in remaining if g is not None))
        gone = (remaining.popleft() for _ in rules)
        return (yield (p if g is None else rule.raised(space, p, g, norm) for rule, p, g in gone))[1]  # type: ignore[no-any-return]
