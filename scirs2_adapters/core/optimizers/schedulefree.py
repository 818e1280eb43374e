"""Schedule-free training around any optimizer."""

from ..fields import nonnegative
from ..wrapper import Wrapper
from . import _schedule_free as shared
from ._schedule_free import BASE_SEQUENCE, WEIGHT


class ScheduleFree(Wrapper):
    """An average of all steps of the base in the place of a falling learning rate. What is trained is y, from where the
    base sees gradients and decays; what is to be evaluated is the average x, which is not stored.

    w = t^r * (largest learning rate so far)^weight_lr_power;   c = w / (sum of w);   u = step of the base optimizer
    y = y + c * (z - y) - (1 - interpolation * (1 - c)) * u
    z = z - u;   x = y + (1 - 1 / interpolation) * (z - y)     (so that y = (1 - interpolation) * z + interpolation * x)

    Give the base no momentum (beta1=0): the average stands in its place.

    Paper: Defazio et al. 2024, arXiv 2405.15682.
    Differs from the paper: nothing. The base's decay is part of its step.
    """

    default_base = "sgd"
    interpolation = shared.interpolation()
    r = nonnegative(0.0, "power with which later steps weigh more in the average")
    weight_lr_power = nonnegative(2.0, "power of the largest learning rate so far with which a step weighs")

    def weighted(self, leaf):
        return shared.weighted(self)

    def wrap_coefficients(self, math, t):
        return {"outward": 1 - 1 / self.interpolation, **shared.weights(self, t, self.learning_rate)}

    def wrap_step(self, xp, u, p, z: BASE_SEQUENCE, steps_averaged: WEIGHT, weight_max: WEIGHT, /,
                  interpolation, weight, older, alike, zero, one):  # fmt: skip
        averages = z, steps_averaged, weight_max
        return shared.averaged(xp, p, u, *averages, interpolation, weight, older, alike, zero, one)

    def evaluation(self, xp, p, z, /, outward):
        return p + outward * (z - p)
