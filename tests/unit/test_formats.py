"""The storage formats, checked over all of their codes rather than samples of them."""

import math
from types import SimpleNamespace

import numba
import numpy as np
import pytest

from scirs2_adapters.core import formats
from scirs2_adapters.core.cpu import storage
from scirs2_adapters.core.cpu.coded import block_functions
from scirs2_adapters.core.cpu.storage import FORMAT_OPS
from tests.unit.test_rounding import PAIRS

Array = np.ndarray
CODES = {"int8": np.arange(-127, 128, dtype=np.int32), "uint8": np.arange(256, dtype=np.int32)}
#: Powers of two and of three, and numbers between, over all of float32's normal range.
SCALES = np.unique(
    np.float32(2.0) ** np.arange(-126, 128, dtype=np.float32)[:, None] * np.float32([1, 1.1, 1.5, 1.9999999])
)
SCALES = SCALES[np.isfinite(SCALES)]


@pytest.fixture(autouse=True)
def quiet() -> object:
    with np.errstate(all="ignore"):
        yield


def formula(dtype: str, codes: Array, scales: Array) -> Array:
    """What a code stands for, in float64."""
    top, power = (127.0, 2) if dtype == "int8" else (255.0, 4)
    return np.sign(codes) * (np.abs(codes) / top) ** power * scales.astype(np.float64)


@pytest.mark.parametrize("dtype", formats.BLOCK_DTYPES)
def test_every_code_of_every_scale(dtype: str) -> None:
    codec, codes, scales = formats.codec_of(FORMAT_OPS, dtype), CODES[dtype], SCALES[:, None]
    numbers = codec.decode(codes, scales)
    assert numbers.dtype == np.float32
    np.testing.assert_allclose(numbers, formula(dtype, codes, scales), rtol=4e-7, atol=1.5e-45)
    assert (np.diff(numbers, axis=1) >= 0).all()
    assert (numbers[:, -1] == SCALES).all()
    assert (numbers[:, codes == 0] == 0).all()
    # Below 3e-36 the least codes stand for numbers that float32 has no more bits for.
    fine = SCALES > 3e-36
    again = codec.encode(numbers[fine], np.float32(1) / scales[fine], np.float32(0.5))
    assert (again == codes).all()


@pytest.mark.parametrize("dtype", formats.BLOCK_DTYPES)
def test_numbers_go_to_the_nearest_code(dtype: str) -> None:
    """Nearest in the root, in which codes are evenly spaced; what is not 0 never becomes an unsigned 0."""
    codec, power = formats.codec_of(FORMAT_OPS, dtype), 2 if dtype == "int8" else 4
    x = np.linspace(0, 1, 2_000_001, dtype=np.float32)
    codes = codec.encode(x, np.float32(1), np.float32(0.5))
    assert (np.diff(codes) >= 0).all()
    exact = x.astype(np.float64) ** (1 / power) * CODES[dtype][-1]
    least = 1 if dtype == "uint8" else 0
    assert (np.abs(codes - np.maximum(exact, least * (x > 0))) < 0.5 + 1e-4).all()
    if dtype == "int8":
        assert (codec.encode(-x, np.float32(1), np.float32(0.5)) == -codes).all()
    else:
        assert (codec.encode(-x, np.float32(1), np.float32(0.5)) == 0).all()


@pytest.mark.parametrize("count", [1, 255, 256, 257, 5000])
@pytest.mark.parametrize("dtype", formats.BLOCK_DTYPES)
def test_arrays_in_blocks(dtype: str, count: int) -> None:
    rng = np.random.default_rng(count)
    x = (rng.standard_normal(count) * np.exp(rng.uniform(-10, 10, count))).astype(np.float32)
    x = np.abs(x) if dtype == "uint8" else x
    codes, scales = formats.store(FORMAT_OPS, dtype, x)
    assert codes.dtype == dtype
    assert codes.shape == x.shape
    assert scales.shape == (formats.blocks(count),)
    y = formats.load(FORMAT_OPS, dtype, codes, scales)
    rows = [np.abs(x[k : k + formats.BLOCK]).max() for k in range(0, count, formats.BLOCK)]
    np.testing.assert_array_equal(scales, rows)
    scale = np.repeat(scales, formats.BLOCK)[:count].astype(np.float64)
    # Half a step of the root, or a whole one where it is dithered.
    power, top, step = (2, 127, 0.5) if dtype == "int8" else (4, 255, 1.0)
    root = (np.abs(x) / scale) ** (1 / power)
    bound = scale * ((root + step / top) ** power - root**power)
    lowest = scale * (1 / top) ** power if dtype == "uint8" else 0
    assert (np.abs(y - x) <= np.maximum(bound, lowest) * (1 + 1e-4)).all()
    again = formats.store(FORMAT_OPS, dtype, y)
    np.testing.assert_array_equal(again[0], codes)
    np.testing.assert_array_equal(again[1], scales)


def test_unsigned_codes_are_right_in_the_mean_over_steps() -> None:
    """A mean of squares that decays by a thousandth at a step decays so in 8 bits; to the nearest it would stay."""
    x = np.random.default_rng(0).uniform(0.2, 1, 8192).astype(np.float32)
    x[:: formats.BLOCK] = 1
    codes, scales = formats.store(FORMAT_OPS, "uint8", x, formats.dither(0))
    for t in range(1, 1001):
        y = formats.load(FORMAT_OPS, "uint8", codes, scales) * np.float32(0.999)
        y[:: formats.BLOCK] = 1
        codes, scales = formats.store(FORMAT_OPS, "uint8", y, formats.dither(t))
    share = formats.load(FORMAT_OPS, "uint8", codes, scales) / x
    others = share[np.arange(x.size) % formats.BLOCK != 0]
    assert abs(others.mean() - 0.999**1000) < 0.01
    assert others.std() < 0.05


def test_an_array_of_steps_has_the_dither_of_each() -> None:
    steps = np.concatenate([np.arange(1, 20_001), 10**6 + np.arange(20_000), 2**31 - 1 - np.arange(20_000)])
    wanted = np.array([formats.dither(float(t)) for t in steps], dtype=np.float32)
    np.testing.assert_array_equal(formats.counted_dither(FORMAT_OPS, steps.astype(np.int32)), wanted)
    np.testing.assert_allclose(wanted, steps * formats.GOLDEN % 1.0, atol=4e-7)  # float64 has no more bits there


SPECIAL = {
    "zeros": np.zeros(256),
    "subnormal": np.full(256, 1e-40),
    "least normal": np.full(256, formats.TINY),
    "largest": np.full(256, np.finfo(np.float32).max),
    "one infinity": np.where(np.arange(256) == 7, np.inf, 1.0),
    "one NaN": np.where(np.arange(256) == 7, np.nan, 1.0),
    "one large": np.where(np.arange(256) == 7, 1e30, 1e-9),
    "ones": np.ones(77),
}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("dtype", formats.BLOCK_DTYPES)
def test_blocks_with_a_meaning_of_their_own(dtype: str, name: str) -> None:
    x = SPECIAL[name].astype(np.float32)
    codes, scales = formats.store(FORMAT_OPS, dtype, x)
    y = formats.load(FORMAT_OPS, dtype, codes, scales)
    if name in ("zeros", "subnormal"):
        assert (y == 0).all()
        assert scales == 0
    elif "one " in name and "large" not in name:
        assert np.isnan(y).all()
        assert np.isnan(scales).all()
        assert (codes == 0).all()
    elif name == "one large":
        assert y[7] == x[7]
        assert (y[:7] == 0).all() if dtype == "int8" else (y[:7] > 0).all()
    else:
        np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("dtype", formats.BLOCK_DTYPES)
def test_a_kernel_encodes_the_same_bits(dtype: str) -> None:
    functions = block_functions(dtype, "float32", 0, 1, 2)
    encode, load, scale_of = functions["encode"], functions["load"], functions["scale"]

    @numba.njit(error_model="numpy")
    def both(x, codes, scales, y, count, block, result):  # type: ignore[no-untyped-def]
        for b in range((count + block - 1) // block):
            n = min(block, count - b * block)
            encode(x + 4 * b * block, codes, scales, b, n, 0.3)
            for j in range(n):
                result[b * block + j] = load(codes, scale_of(scales, b), b * block + j)

    rng = np.random.default_rng(0)
    usual = (rng.standard_normal(20_000) * np.exp(rng.uniform(-20, 20, 20_000))).astype(np.float32)
    for x in (usual, *(np.ascontiguousarray(v, dtype=np.float32) for v in SPECIAL.values())):
        codes, scales = np.zeros(x.size, dtype), np.zeros(formats.blocks(x.size), np.float32)
        y = np.zeros_like(x)
        both(x.ctypes.data, codes.ctypes.data, scales.ctypes.data, 0, x.size, formats.BLOCK, y)
        expected, expected_scales = formats.store(FORMAT_OPS, dtype, x, 0.3)
        np.testing.assert_array_equal(codes, expected)
        np.testing.assert_array_equal(scales, expected_scales)
        np.testing.assert_array_equal(y, formats.load(FORMAT_OPS, dtype, expected, expected_scales))


def test_what_an_array_has_beside_it() -> None:
    ops = SimpleNamespace(**vars(FORMAT_OPS))
    assert formats.companion("exp_avg", "int8") == "exp_avg_scale"
    assert formats.companion("p", "bfloat16+int16") == "rounding_error"
    assert formats.companion("p", "float16+stochastic") == "rounding_seed"
    assert formats.companion("exp_avg", "bfloat16") is None
    x = np.float32([[1.0, -2.5], [3.141592, 1e-3]])
    for dtype in PAIRS:
        stored, error = formats.store(ops, dtype, x)
        assert stored.shape == error.shape == x.shape
        assert error.dtype == dtype.split("+")[1]
        np.testing.assert_allclose(formats.load(ops, dtype, stored, error), x, rtol=2.0**-16)


@pytest.mark.parametrize("number", [0.0, 0.1, -0.3, 1e-40, math.inf, math.nan], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (255,), (3, 200), (0, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "uint8"])
def test_one_number_everywhere_is_stored_as_an_array_of_it(number: float, shape: tuple[int, ...], dtype: str) -> None:
    expected = storage.store_parts(np.full(shape, number, np.float32), dtype)
    parts = storage.filled(shape, np.float32(number), dtype)
    assert len(parts) == len(expected)
    for part, like in zip(parts, expected, strict=True):
        assert part.shape == like.shape
        assert part.dtype == like.dtype
        assert part.tobytes() == like.tobytes()
        assert part.flags.writeable
        assert part.base is None
