"""What both of optax's interfaces to Optimistic Adam share."""

from types import SimpleNamespace
from typing import ClassVar

from ..fields import Value, flag
from ..formulas import ema
from ..ops import Array, Scalar
from ..slots import NONNEGATIVE
from ._moments import Moments, adam_direction, ahead_coefficients


class OptimisticMoments(Moments):
    """Adam's direction, and how it has changed; subclasses say how much of each is a step."""

    nesterov = flag(False, "look ahead along the mean of gradients")
    matches: ClassVar[dict[str, dict[str, Value]]] = {"optax": {"nesterov": True}}

    def directions(self, math: SimpleNamespace, t: Scalar, direction: Scalar, change: Scalar) -> dict[str, Scalar]:
        """The scalars of a step that is `direction` times the direction plus `change` times its change."""
        change = math.where(t == 1, 0.0, change)
        scalars = ahead_coefficients(self.replace_unchecked({"learning_rate": 1.0}), math, t)
        return scalars | {"ahead": direction + change, "back": change}

    def update(self, xp: Array, p: Array, g: Array, exp_avg, exp_avg_sq: NONNEGATIVE, previous_direction, /,
               step_size, grad_step_size, one_minus_beta1, one_minus_beta2, inv_bias_correction2, eps, eps_root,
               ahead, back):  # fmt: skip
        exp_avg, exp_avg_sq = ema(exp_avg, g, one_minus_beta1), ema(exp_avg_sq, g * g, one_minus_beta2)
        root = xp.sqrt(exp_avg_sq * inv_bias_correction2 + eps_root) + eps
        direction = adam_direction(self, exp_avg, g, step_size, grad_step_size) / root
        return ahead * direction - back * previous_direction, exp_avg, exp_avg_sq, direction
