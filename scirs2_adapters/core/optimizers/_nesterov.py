"""Nesterov's look-ahead along averages that are corrected for their young age."""

from typing import Any

from ..formulas import adam_coefficients, one_minus_power


def ahead_coefficients(rule: Any, math: Any, t: Any) -> dict[str, Any]:
    """The scalars of an Adam direction that may look ahead."""
    found = adam_coefficients(rule, math, t)
    if not rule.nesterov:
        return found | {"grad_step_size": 0.0}
    ahead = rule.learning_rate * rule.beta1 / one_minus_power(math, rule.beta1, t + 1)
    return found | {"step_size": ahead, "grad_step_size": found["one_minus_beta1"] * found["step_size"]}


def adam_direction(rule: Any, m: Any, g: Any, step_size: Any, grad_step_size: Any) -> Any:
    """The corrected mean times the learning rate; with Nesterov's look-ahead, that of the next step as far as known."""
    return step_size * m + grad_step_size * g if rule.nesterov else step_size * m


def nesterov_mix(math: Any, momentum: Any, t: Any) -> Any:
    """The part of a corrected average in a look-ahead that mixes it, as of the next step, with the gradient."""
    now, then = (one_minus_power(math, momentum, k) for k in (t, t + 1))
    return momentum * now / (momentum * now + (1 - momentum) * then)
