"""Parameters of each dtype: they move, stay finite, and keep their dtype."""

from __future__ import annotations

import numpy as np

from ..driver import Driver
from ..outcome import NotApplicable, expect
from ..problem import STEPS, same_bits


def _walk(driver: Driver, dtype: str) -> None:
    try:
        run = driver.start(dtype=dtype)
        before = run.params()
        run.advance(2 * STEPS)
    except (TypeError, ValueError) as error:
        if dtype == "float32":
            raise
        raise NotApplicable(f"it refuses {dtype}") from error
    after = run.params()
    bad = sum(int((~np.isfinite(p)).sum()) for p in after)
    expect(bad == 0, "finite parameters", f"{bad} numbers that are not")
    # large numbers may stay where they are in 16 bits; biases begin at zero
    expect(not same_bits(before, after), "parameters that move", "no change after twelve steps")
    kept = run.dtypes()
    expect(kept == {dtype}, f"parameters of {dtype}", f"{', '.join(sorted(kept))}")


def float64(driver: Driver) -> None:
    """float64 parameters move and stay finite."""
    _walk(driver, "float64")


def float32(driver: Driver) -> None:
    """float32 parameters move and stay finite."""
    _walk(driver, "float32")


def bfloat16(driver: Driver) -> None:
    """bfloat16 parameters move and stay finite."""
    _walk(driver, "bfloat16")


def float16(driver: Driver) -> None:
    """float16 parameters move and stay finite, those without a gradient too."""
    _walk(driver, "float16")


CHECKS = (float64, float32, bfloat16, float16)
