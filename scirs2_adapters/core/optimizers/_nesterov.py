"""Nesterov's look-ahead along averages that are corrected for their young age."""

from types import SimpleNamespace

from ..formulas import adam_coefficients, one_minus_power
from ..ops import Array, Scalar
from ..rule import Rule


def ahead_coefficients(rule: Rule, math: SimpleNamespace, t: Scalar) -> dict[str, Scalar]:
    """The scalars of an Adam direction that may look ahead."""
    found = adam_coefficients(rule, math, t)
    if not rule.nesterov:
        return found | {"grad_step_size": 0.0}
    ahead = rule.learning_rate * rule.beta1 / one_minus_power(math, rule.beta1, t + 1)
    return found | {"step_size": ahead, "grad_step_size": found["one_minus_beta1"] * found["step_size"]}


def adam_direction(rule: Rule, m: Array, g: Array, step_size: Array, grad_step_size: Array) -> Array:
    """The corrected mean times the learning rate; with Nesterov's look-ahead, that of the next step as far as known."""
    return step_size * m + grad_step_size * g if rule.nesterov else step_size * m


def nesterov_mix(math: SimpleNamespace, momentum: Scalar, t: Scalar) -> Scalar:
    """The part of a corrected average in a look-ahead that mixes it, as of the next step, with the gradient."""
    now, then = (one_minus_power(math, momentum, k) for k in (t, t + 1))
    return momentum * now / (momentum * now + (1 - momentum) * then)
