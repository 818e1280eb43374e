"""The storage formats in kernels for CUDA devices, run by Triton's interpreter: the bits of numpy's, for every code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scirs2_adapters.adapters.torch.executors.triton_formats import function_name, functions
from scirs2_adapters.core import formats
from scirs2_adapters.core.cpu.storage import FORMAT_OPS, STORAGES
from scirs2_adapters.core.formats import BLOCK, BLOCK_DTYPES
from scirs2_adapters.core.rounding import ERROR_BITS, STOCHASTIC

from .triton_support import launch

CODED = [dtype for dtype in STORAGES if formats.companion("", dtype)]
PAIRS = [dtype for dtype in CODED if dtype.partition("+")[2] in ERROR_BITS]
RANDOM = [dtype for dtype in CODED if dtype.endswith(STOCHASTIC)]
#: Numbers in a launch; the interpreter takes as long for one as for these.
ROWS = 512
TILE = f"""
    places = tl.arange(0, {BLOCK})[None, :]
    b = tl.program_id(0) * {ROWS} + tl.arange(0, {ROWS})[:, None]
    i = b * {BLOCK} + places
"""


def test_each_storage_is_of_one_kind() -> None:
    assert sorted([*BLOCK_DTYPES, *PAIRS, *RANDOM]) == sorted(CODED)


def other_dtype(dtype: str) -> str:
    """What the companion's numbers are."""
    return "float32" if dtype in BLOCK_DTYPES else "int32" if dtype in RANDOM else dtype.partition("+")[2]


def companion_place(dtype: str) -> str:
    return "z" if dtype in RANDOM else "z + b" if dtype in BLOCK_DTYPES else "z + i"


def tensor(x: np.ndarray, dtype: str) -> torch.Tensor:
    """The array as a tensor of the first dtype of a storage, which numpy may not have."""
    kind = getattr(torch, dtype.partition("+")[0])
    return torch.from_numpy(x.view(np.int16)).view(kind) if x.itemsize == 2 else torch.from_numpy(x)


def run(dtype: str, body: str, **arrays: np.ndarray) -> None:
    """Runs these lines for each tile of x."""
    text = "\n".join([*functions(dtype), "@triton.jit", f"def kernel({', '.join(arrays)}):", TILE, f"    {body}\n"])
    dtypes = {"x": dtype, "z": other_dtype(dtype)}
    tensors = {name: tensor(x, dtypes.get(name, "float32")) for name, x in arrays.items()}
    launch(text, arrays["x"].size // (ROWS * BLOCK), tensors)


def decoded(dtype: str, x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The numbers of these codes, which fill whole tiles."""
    y = np.empty(x.shape, np.float32)
    numbers = f"{function_name('load', dtype)}(tl.load(x + i), tl.load({companion_place(dtype)}))"
    run(dtype, f"tl.store(y + i, {numbers})", x=x, z=other, y=y)
    return y


def encoded(dtype: str, y: np.ndarray, number: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The codes of these numbers, which fill whole tiles, and their companions."""
    x = np.empty(y.shape, STORAGES[dtype].carrier)
    count = 1 if dtype in RANDOM else y.size // BLOCK if dtype in BLOCK_DTYPES else y.size
    other = np.full(count, seed, other_dtype(dtype))
    others = "tl.load(z), i" if dtype in RANDOM else "0, places"
    store = f"u, v = {function_name('store', dtype)}(tl.load(y + i), tl.load(number), {others})"
    body = f"{store}\n    tl.store(x + i, u)\n    tl.store({companion_place(dtype)}, v)"
    run(dtype, body, y=y, x=x, z=other, number=np.array([number], np.float32))
    return x, other


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(actual, expected)  # any NaN is as good as another
    finite = expected == expected
    np.testing.assert_array_equal(np.signbit(actual[finite]), np.signbit(expected[finite]))


def assert_same_stored(actual: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(actual, expected, strict=True):
        halves = a.itemsize == 2 and b.dtype.kind == "f"
        assert_same_bits(*(x.view(np.int16) if halves else x for x in (a, np.asarray(b))))


@pytest.mark.parametrize("dtype", BLOCK_DTYPES)
def test_every_code_has_the_number_of_numpy_and_is_its_code_again(dtype: str) -> None:
    """All codes, in blocks with scales of all sizes, none and NaN."""
    limits = np.iinfo(dtype)
    codes = np.tile(np.arange(max(limits.min, -127), limits.max + 1).astype(dtype), ROWS + 4)[: ROWS * BLOCK]
    scales = np.ldexp(np.linspace(1, 2, ROWS, dtype=np.float32), np.arange(ROWS) % 252 - 126).astype(np.float32)
    scales[:3] = 0, np.nan, np.finfo(np.float32).max
    numbers = decoded(dtype, codes, scales)
    with np.errstate(all="ignore"):
        assert_same_bits(numbers, formats.load(FORMAT_OPS, dtype, codes, scales))
        expected = formats.store(FORMAT_OPS, dtype, numbers, 0.25)
    assert_same_stored(encoded(dtype, numbers, 0.25), expected)


@pytest.mark.parametrize("dtype", PAIRS)
def test_every_16_bit_number_has_the_bits_of_numpy_with_its_rounding_error(dtype: str) -> None:
    """With every error of 8 bits, and with 32 all over the range of those of 16; there and back."""
    error = np.dtype(other_dtype(dtype))
    high = np.arange(1 << 16, dtype=np.uint16).view(STORAGES[dtype].carrier)
    limits = np.iinfo(error)
    count = 256 if error == np.int8 else 32
    for part in np.array_split(np.linspace(limits.min, limits.max, count).astype(error), count // 32):
        x, errors = np.repeat(high, part.size), np.tile(part, high.size)
        numbers = decoded(dtype, x, errors)
        with np.errstate(all="ignore"):
            assert_same_bits(numbers, formats.load(FORMAT_OPS, dtype, x, errors))
            expected = formats.store(FORMAT_OPS, dtype, numbers)
        assert_same_stored(encoded(dtype, numbers, 0.5), expected)


@pytest.mark.parametrize("dtype", RANDOM)
def test_every_16_bit_number_is_read_as_numpy_reads_it(dtype: str) -> None:
    high = np.tile(np.arange(1 << 16, dtype=np.uint16), 2).view(STORAGES[dtype].carrier)
    seed = np.array([3], np.int32)
    assert_same_bits(decoded(dtype, high, seed), formats.load(FORMAT_OPS, dtype, high, seed))


@pytest.mark.parametrize("number", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("dtype", CODED)
def test_any_float32_number_is_stored_as_numpy_stores_it(dtype: str, number: float) -> None:
    """Bits at random, so of every size, infinities and NaN among them; and blocks without these."""
    random = np.random.default_rng(0)
    x = random.integers(0, 1 << 32, ROWS * BLOCK, dtype=np.uint32).view(np.float32).reshape(ROWS, BLOCK)
    sizes = np.ldexp(np.float32(1), random.integers(-126, 126, (ROWS, 1)))
    x[::2] = random.standard_normal((ROWS // 2, BLOCK), dtype=np.float32) * sizes[::2]
    x[0], x[2] = 0, np.finfo(np.float32).smallest_subnormal
    assert 0 < np.isfinite(x).all(axis=1).sum() < ROWS
    for seed in (7, -(1 << 31)) if dtype in RANDOM else (0,):
        with np.errstate(all="ignore"):
            other = np.array([seed], np.int32) if dtype in RANDOM else None
            expected = formats.store(FORMAT_OPS, dtype, x.reshape(-1), number, other)
        assert_same_stored(encoded(dtype, x.reshape(-1), number, seed), expected)
