"""Formulas that several optimizers share, each said once.

Bias corrections are `-expm1(t * log(beta))` with the logarithm of a plain number taken in float64: under a trace,
where t is a float32 number, `1 - beta**t` is wrong by 1e-5 at small t. Moving averages are `a + gain * (x - a)`, exact
when x repeats.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from .fields import is_number
from .ops import Array, Scalar


def log_of(scalar_math: SimpleNamespace, beta: Scalar) -> Scalar:
    """The logarithm of a decay rate; that of 0 is -inf."""
    return (math.log(beta) if beta > 0 else -math.inf) if is_number(beta) else scalar_math.log(beta)


def one_minus_power(scalar_math: SimpleNamespace, beta: Scalar, t: Scalar) -> Scalar:
    """1 - beta**t, to full precision at every t >= 1."""
    return -scalar_math.expm1(t * log_of(scalar_math, beta))


def ramp(scalar_math: SimpleNamespace, t: Scalar, steps: Scalar) -> Scalar:
    """What grows linearly to 1 over so many steps; 1 where these are 0."""
    return scalar_math.minimum(1.0, t / scalar_math.maximum(steps, 1.0))


def ema(old: Array, new: Array, gain: Array) -> Array:
    """The exponential moving average, moved by `gain` towards `new`."""
    return old + gain * (new - old)


def accumulation(
    scalar_math: SimpleNamespace, beta: Scalar, t: Scalar, corrected: bool = True
) -> tuple[Scalar, Scalar]:
    """The gain of a running mean, and by what the mean is multiplied: `corrected` for its start at 0, or not. With a
    beta of 1, which makes a sum of it, the mean of all steps is kept, times their number.
    """
    sum_of_weights = scalar_math.maximum(one_minus_power(scalar_math, beta, t), 1e-30)
    gain = scalar_math.where(beta < 1, 1 - beta, 1 / t)
    return gain, scalar_math.where(beta < 1, 1 / sum_of_weights if corrected else 1.0, t)


def adam_coefficients(rule: Any, math: SimpleNamespace, t: Scalar) -> dict[str, Scalar]:
    """The scalars of an Adam direction: `step_size * m / (sqrt(v * inv_bias_correction2 + eps_root) + eps)`.

    The places eps takes in other frameworks are numbers here, not other formulas: Keras' eps "hat" is added to the
    root of the uncorrected v, which is eps / sqrt(1 - beta2**t) in this form. Likewise AMSGrad over corrected values.
    """
    correction1, correction2 = one_minus_power(math, rule.beta1, t), one_minus_power(math, rule.beta2, t)
    early = rule.max_corrected and getattr(rule, "amsgrad", False)  # corrected before the maximum, so not after it
    before, after = (1 / correction2, 1.0) if early else (1.0, 1 / correction2)
    return {
        "step_size": rule.learning_rate / correction1,
        "inv_bias_correction1": 1 / correction1,
        "one_minus_beta1": 1 - rule.beta1,
        "one_minus_beta2": 1 - rule.beta2,
        "max_correction": before,
        "inv_bias_correction2": after,
        "eps": rule.eps / math.sqrt(correction2) if rule.eps_place == "hat" else rule.eps,
        "eps_root": rule.eps_root,
    }


def power(xp: Array, x: Array, exponent: Array, value: float) -> Array:
    """x to the power of a constant, `exponent`, whose value says whether that is a root, which is quicker and exact."""
    return xp.sqrt(x) if value == 0.5 else xp.power(x, exponent)


def nesterov_mix(scalar_math: SimpleNamespace, momentum: Scalar, t: Scalar) -> Scalar:
    """The part of a corrected average in a look-ahead that mixes it, as of the next step, with the gradient."""
    now, then = (one_minus_power(scalar_math, momentum, k) for k in (t, t + 1))
    return momentum * now / (momentum * now + (1 - momentum) * then)


def places(rule: Any) -> dict[str, Scalar]:
    """Where the learning rate and eps act: `inside` or outside (`lr`) a momentum buffer, under the `root` or after it
    (`eps`).
    """
    inside, lr = (rule.learning_rate, 1.0) if rule.lr_in_buffer else (1.0, rule.learning_rate)
    eps = getattr(rule, "eps", 0.0)
    root, eps = (eps, 0.0) if rule.eps_place == "inside" else (0.0, eps)
    return {"inside": inside, "lr": lr, "root": root, "eps": eps}


def heavy_ball(buffer: Array | None, mu: Array, x: Array) -> Array:
    """The buffer with x added to what is left of the past; x itself where there is no buffer."""
    return x if buffer is None else mu * buffer + x
