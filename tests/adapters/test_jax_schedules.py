"""The core's schedules and optax's give the same numbers in float64."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from scirs2_adapters.core import schedules as s

enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64

PAIRS: dict[str, tuple[Any, Any]] = {
    "constant": (s.Constant(0.3), optax.constant_schedule(0.3)),
    "linear": (s.Linear(0.3, 30, 0.1), optax.linear_schedule(0.3, 0.1, 30)),
    "polynomial": (s.Polynomial(0.3, 30, 0.1, power=2.0), optax.polynomial_schedule(0.3, 0.1, 2.0, 30)),
    "cosine": (s.Cosine(0.3, 30, 0.06), optax.cosine_decay_schedule(0.3, 30, alpha=0.2)),
    "exponential": (s.Exponential(0.3, 0.5, 7), optax.exponential_decay(0.3, 7, 0.5)),
    "piecewise": (s.Piecewise((5, 20), (0.3, 0.2, 0.4)), optax.piecewise_constant_schedule(0.3, {5: 2 / 3, 20: 2.0})),
    "one cycle": (s.OneCycle(0.3, 30), optax.cosine_onecycle_schedule(30, 0.3)),
    "another cycle": (s.OneCycle(0.3, 25, 0.5, 10.0, 50.0), optax.cosine_onecycle_schedule(25, 0.3, 0.5, 10.0, 50.0)),
    "warm-up": (s.Warmup(s.Cosine(0.3, 20), 10, 0.01), optax.warmup_cosine_decay_schedule(0.01, 0.3, 10, 30)),
    "warm-up, stable, decay": (
        s.WSD(0.3, 5, 10, 15, 0.1),
        optax.join_schedules(
            [optax.linear_schedule(0, 0.3, 5), optax.linear_schedule(0.3, 0.3, 9), optax.linear_schedule(0.3, 0.1, 15)],
            [5, 15],
        ),
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_a_schedule_is_optaxs(kind: str) -> None:
    ours, theirs = PAIRS[kind]
    with enable_x64(True):
        expected = [float(theirs(np.int64(t))) for t in range(40)]
    np.testing.assert_allclose([ours(t) for t in range(40)], expected, rtol=1e-14, atol=1e-16)
