"""Rounding errors and stochastic rounding of 16-bit numbers, checked over all patterns."""

from collections.abc import Callable

import numba
import numpy as np
import pytest

from scirs2_adapters.core import formats, rounding
from scirs2_adapters.core.cpu.coded import SCALAR_OPS, stochastic_functions
from scirs2_adapters.core.cpu.storage import FORMAT_OPS

Array = np.ndarray
PAIRS = [f"{stored}+{error}" for stored in ("bfloat16", "float16") for error in ("int8", "int16")]


@pytest.fixture(autouse=True)
def quiet() -> object:
    with np.errstate(all="ignore"):
        yield


def every_pair(dtype: str) -> tuple[Array, Array]:
    """All 16-bit patterns with all errors of 8 bits, or of 16 bits every 257th."""
    bits = rounding.ERROR_BITS[dtype.split("+")[1]]
    most = (1 << bits - 1) - 1
    errors = np.arange(-most, most + 1, 1 if bits == 8 else 257, dtype=np.int32)
    return np.arange(65536, dtype=np.int32)[:, None], errors


@pytest.mark.parametrize("dtype", PAIRS)
def test_every_pair(dtype: str) -> None:
    """Joined numbers are what the two parts say, and are split again into numbers that join to the same."""
    pair = rounding.pair_of(FORMAT_OPS, dtype)
    high, errors = every_pair(dtype)
    x, bits = pair.join(high, errors), rounding.ERROR_BITS[dtype.split("+")[1]]
    if dtype.startswith("bfloat16"):  # bits of one number, so that there is nothing below 0
        below = ((high & 0x7FFF) == 0) & (errors < 0)
        expected = ((high << 16) + (errors << (16 - bits))).view(np.float32)
    else:
        below = np.zeros(x.shape, dtype=bool)
        first = high.astype(np.uint16).view(np.float16)
        place = np.maximum(2.0**-24, np.spacing(np.abs(first).astype(np.float32)) * 2.0**13)
        unit = place.astype(np.float64) / (1 << bits)
        expected = (first.astype(np.float64) + errors * unit).astype(np.float32)
    largest = np.inf if dtype.startswith("bfloat16") else 65520  # from there on float16 is infinite
    reached = (np.abs(x) < largest) & ~below
    np.testing.assert_array_equal(x[reached], expected[reached])
    high, errors = pair.split(x[reached])
    np.testing.assert_array_equal(pair.join(high, errors), x[reached])
    assert np.abs(errors).max() <= 1 << (bits - 1)


@pytest.mark.parametrize("dtype", PAIRS)
def test_pairs_lose_no_more_than_their_bits(dtype: str) -> None:
    pair, x = rounding.pair_of(FORMAT_OPS, dtype), normal_numbers(dtype)
    y = pair.join(*pair.split(x))
    lost = np.abs(y.astype(np.float64) - x) / np.abs(x)
    assert lost.max() <= {"bfloat16+int8": 2.0**-16, "float16+int8": 2.0**-18}.get(dtype, 0.0)


def normal_numbers(dtype: str) -> Array:
    rng = np.random.default_rng(0)
    low, high = (-87, 87) if dtype[0] == "b" else (-9.7, 11)
    return (np.exp(rng.uniform(low, high, 3_000_000)) * rng.choice([-1, 1], 3_000_000)).astype(np.float32)


def in_kernel(dtype: str) -> tuple[Callable[..., object], Callable[..., object]]:
    pair = rounding.pair_of(SCALAR_OPS, dtype)
    return numba.njit(forceinline=True)(pair.split), numba.njit(forceinline=True)(pair.join)


def test_every_float32_survives_as_bfloat16_and_int16() -> None:
    """All 4,294,967,296 of them, in the arithmetic of kernels; NaN stays NaN."""
    split, join = in_kernel("bfloat16+int16")
    bits, from_bits = SCALAR_OPS.bits, SCALAR_OPS.from_bits

    @numba.njit
    def wrong():  # type: ignore[no-untyped-def]
        count = 0
        for n in range(1 << 32):
            x = from_bits(np.int32(n))
            high, error = split(x)
            y = join(np.int16(high), np.int16(error))
            count += not (bits(y) == bits(x) or (x != x and y != y))
        return count

    assert wrong() == 0


@pytest.mark.parametrize("dtype", PAIRS)
def test_a_kernel_splits_into_the_same_bits(dtype: str) -> None:
    split, _ = in_kernel(dtype)
    special = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 65504, 65519, 65520, 3.4e38, -3.4e38, 1.00390625])
    x = np.concatenate([normal_numbers(dtype), special])
    high, error = np.zeros(x.size, np.int32), np.zeros(x.size, np.int32)

    @numba.njit
    def run(x, high, error):  # type: ignore[no-untyped-def]
        for i in range(x.size):
            high[i], error[i] = split(x[i])

    run(x, high, error)
    expected = rounding.pair_of(FORMAT_OPS, dtype).split(x)
    nan = np.isnan(x)
    np.testing.assert_array_equal(high[~nan] & 0xFFFF, expected[0][~nan] & 0xFFFF)
    np.testing.assert_array_equal(error, expected[1])
    assert np.isnan(rounding.pair_of(FORMAT_OPS, dtype).join(high[nan], error[nan])).all()


STOCHASTIC = ["bfloat16+stochastic", "float16+stochastic"]


def neighbours(dtype: str, x: Array) -> tuple[Array, Array]:
    """The 16-bit numbers next to the magnitudes of x or equal to them, towards zero, and their spacing there."""
    size = np.abs(x).astype(np.float64)
    places, least = (7, -126) if dtype[0] == "b" else (10, -14)
    exponent = np.maximum(np.frexp(size)[1] - 1, least)
    unit = np.ldexp(1.0, exponent - places)
    below = np.floor(size / unit) * unit
    return below, unit


@pytest.mark.parametrize("dtype", STOCHASTIC)
def test_stochastic_rounding_goes_to_a_neighbour_by_its_share_of_random_numbers(dtype: str) -> None:
    """With every one of the 65,536 random numbers."""
    x = np.concatenate([normal_numbers(dtype)[:60], np.float32([1e-7, -3e-8, 5.9e-6, 0.1, -1.999, 1024.3])])
    mode, random = rounding.stochastic_of(FORMAT_OPS, dtype), np.arange(65536, dtype=np.int32)
    for number in x:
        y = mode.widen(mode.round(np.full(65536, number, np.float32), random)).astype(np.float64)
        below, unit = neighbours(dtype, number)
        assert (np.sign(y) * np.sign(number) >= 0).all()
        up = (np.abs(y) - below) / unit
        assert set(np.unique(up)) <= {0.0, 1.0}
        assert up.mean() == pytest.approx((abs(float(number)) - below) / unit, abs=2.0**-12)


@pytest.mark.parametrize("dtype", STOCHASTIC)
def test_every_number_of_16_bits_stays_under_stochastic_rounding(dtype: str) -> None:
    mode, patterns = rounding.stochastic_of(FORMAT_OPS, dtype), np.arange(65536, dtype=np.int32)
    x = mode.widen(patterns)
    for random in (0, 1, 0x7FFF, 0xFFFF):
        again = mode.round(x, np.full(65536, random, np.int32)) & 0xFFFF
        np.testing.assert_array_equal(again[x == x], patterns[x == x])
        assert np.isnan(mode.widen(again[x != x])).all()


def test_random_bits_are_evenly_spread_over_places_steps_and_seeds() -> None:
    bits = rounding.random_bits(FORMAT_OPS, rounding.mixer(FORMAT_OPS))
    places = np.arange(1 << 16, dtype=np.int32)
    rows = [
        bits(np.array(seed, np.int32), np.float32(formats.dither(t)), places) / 65536.0
        for seed in (0, 1, 2, 1000)
        for t in range(1, 41)
    ]
    table = np.stack(rows)
    for along in (0, 1):  # each place over seeds and steps, and each step over places
        mean = table.mean(axis=along)
        assert np.abs(mean - 0.5).max() < 6 * np.sqrt(1 / 12 / table.shape[along])
    counts = np.histogram(table, 256, (0, 1))[0]
    assert np.abs(counts / counts.mean() - 1).max() < 0.03
    deviations = table - 0.5
    assert np.abs(np.corrcoef(deviations) - np.eye(len(table))).max() < 0.03
    for lag in (1, 2, 3, 255, 256, 257):
        assert abs((deviations[:, lag:] * deviations[:, :-lag]).mean() * 12) < 0.005


@pytest.mark.parametrize("dtype", STOCHASTIC)
def test_a_kernel_rounds_at_random_into_the_same_bits(dtype: str) -> None:
    special = np.float32([0.0, -0.0, np.inf, -np.inf, 1e-40, 65504, 65519, 65520, 3.4e38, -3.4e38, 1.00390625])
    x = np.concatenate([normal_numbers(dtype)[:300_000], special])
    functions = stochastic_functions(dtype, "float32", 0, 1, 2)
    store = functions["store"]
    stored, seed = np.zeros(x.size, np.uint16), np.array(7, np.int32)

    @numba.njit
    def run(x, stored, seed):  # type: ignore[no-untyped-def]
        for i in range(x.size):
            store(stored, seed, i, x[i], 0.3)

    run(x, stored.ctypes.data, seed.ctypes.data)
    expected, kept = formats.store(FORMAT_OPS, dtype, x, 0.3, seed)
    np.testing.assert_array_equal(stored, expected.view(np.uint16))
    assert kept is seed
