"""Powers in kernels: a cube root by arithmetic, over all magnitudes, and any other power by the C library."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from scirs2_adapters.core.cpu.powers import make_power


def powers(x: np.ndarray, exponent: float) -> np.ndarray:
    power, out = make_power(x.dtype.name), np.empty_like(x)

    @numba.njit(error_model="numpy")
    def loop(x: np.ndarray, exponent: float, out: np.ndarray) -> None:
        for i in range(x.size):
            out[i] = power(x[i], exponent)

    loop(x, x.dtype.type(exponent), out)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_cube_root_is_right_to_its_last_places(dtype: str) -> None:
    kind, rng = np.finfo(dtype), np.random.default_rng(0)
    logs = rng.uniform(np.log2(float(kind.smallest_subnormal)) + 8, np.log2(float(kind.max)) - 1e-3, 300_000)
    x = np.concatenate([np.exp2(logs), [kind.tiny, kind.max, 2.0**90, 2.0**-90, 1, 8, 27, 125]]).astype(dtype)
    expected = np.cbrt(x.astype(np.longdouble))
    assert np.abs(powers(x, 1 / 3) / expected - 1).max() <= 3 * kind.eps
    np.testing.assert_array_equal(powers(np.array([1, 8, 27, 64], dtype), 1 / 3), [1, 2, 3, 4])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_has_no_digits_stays_as_it_is(dtype: str) -> None:
    x = np.array([0, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(powers(x, 1 / 3), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.5, -1 / 3])
def test_any_other_power_is_that_of_the_library(dtype: str, exponent: float) -> None:
    x = np.random.default_rng(0).uniform(1e-6, 1e6, 1000).astype(dtype)
    np.testing.assert_allclose(powers(x, exponent), x ** x.dtype.type(exponent), rtol=4 * np.finfo(dtype).eps)
