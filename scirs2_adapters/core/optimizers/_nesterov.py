"""Nesterov's look-ahead along averages that are corrected for their young age."""

from typing import Any

from ..formulas import adam_coefficients, one_minus_power


def ahead_coefficients(rule: Any, xp: Any, t: Any) -> dict[str, Any]:
    """The scalars of an Adam direction that may look ahead."""
    found = adam_coefficients(rule, xp, t)
    if not rule.nesterov:
        return found | {"fresh": 0.0}
    ahead = rule.learning_rate * rule.beta1 / one_minus_power(xp, rule.beta1, t + 1)
    return found | {"lr": ahead, "fresh": found["gain1"] * found["lr"]}


def adam_direction(rule: Any, m: Any, g: Any, lr: Any, fresh: Any) -> Any:
    """The corrected mean times the learning rate; with Nesterov's look-ahead, that of the next step as far as known."""
    return lr * m + fresh * g if rule.nesterov else lr * m


def nesterov_mix(xp: Any, momentum: Any, t: Any) -> Any:
    """The part of a corrected average in a look-ahead that mixes it, as of the next step, with the gradient."""
    now, then = (one_minus_power(xp, momentum, k) for k in (t, t + 1))
    return momentum * now / (momentum * now + (1 - momentum) * then)
