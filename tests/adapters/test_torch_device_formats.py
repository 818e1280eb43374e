"""The storage formats in kernels for CUDA devices, run by Triton's interpreter: the bits of numpy's, for every code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scirs2_adapters.adapters.torch.executors.triton_formats import function_name, functions
from scirs2_adapters.core import formats
from scirs2_adapters.core.cpu.storage import FORMAT_OPS, STORAGES
from scirs2_adapters.core.formats import BLOCK, BLOCK_DTYPES

from .triton_support import launch

CODED = [dtype for dtype in STORAGES if formats.companion("", dtype)]
PAIRS = [dtype for dtype in CODED if dtype not in BLOCK_DTYPES]
#: Numbers in a launch; the interpreter takes as long for one as for these.
ROWS = 512
TILE = f"""
    i = tl.program_id(0) * {ROWS * BLOCK} + tl.arange(0, {ROWS})[:, None] * {BLOCK} + tl.arange(0, {BLOCK})[None, :]
    b = tl.program_id(0) * {ROWS} + tl.arange(0, {ROWS})[:, None]
"""


def kernel(dtype: str, arguments: str, body: str) -> str:
    return "\n".join([*functions(dtype), "@triton.jit", f"def kernel({arguments}):", TILE, f"    {body}\n"])


def tensor(x: np.ndarray, dtype: str) -> torch.Tensor:
    """The array as a tensor of the first dtype of a storage, which numpy may not have."""
    kind = getattr(torch, dtype.partition("+")[0])
    return torch.from_numpy(x.view(np.int16)).view(kind) if x.itemsize == 2 else torch.from_numpy(x)


def decoded(dtype: str, x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The numbers of these codes, which fill whole tiles."""
    place = "b" if dtype in BLOCK_DTYPES else "i"
    body = f"tl.store(y + i, {function_name('load', dtype)}(tl.load(x + i), tl.load(z + {place})))"
    y = np.empty(x.shape, np.float32)
    error = "float32" if dtype in BLOCK_DTYPES else dtype.partition("+")[2]
    arrays = {"x": tensor(x, dtype), "z": tensor(other, error), "y": torch.from_numpy(y)}
    launch(kernel(dtype, "x, z, y", body), x.size // (ROWS * BLOCK), arrays)
    return y


def encoded(dtype: str, y: np.ndarray, number: float) -> tuple[np.ndarray, np.ndarray]:
    """The codes of these numbers, which fill whole tiles, and their companions."""
    blocks = dtype in BLOCK_DTYPES
    x = np.empty(y.shape, STORAGES[dtype].carrier)
    other = np.empty(y.size // BLOCK, np.float32) if blocks else np.empty(y.size, dtype.partition("+")[2])
    store = f"u, v = {function_name('store', dtype)}(tl.load(y + i), tl.load(number))"
    body = f"{store}\n    tl.store(x + i, u)\n    tl.store(z + {'b' if blocks else 'i'}, v)"
    error = "float32" if blocks else dtype.partition("+")[2]
    arrays = {"y": torch.from_numpy(y), "x": tensor(x, dtype), "z": tensor(other, error)}
    arrays["number"] = torch.tensor([number], dtype=torch.float32)
    launch(kernel(dtype, "y, x, z, number", body), y.size // (ROWS * BLOCK), arrays)
    return x, other


def assert_same_bits(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(found, expected)  # any NaN is as good as another
    finite = expected == expected
    np.testing.assert_array_equal(np.signbit(found[finite]), np.signbit(expected[finite]))


@pytest.mark.parametrize("dtype", BLOCK_DTYPES)
def test_every_code_has_the_number_of_numpy_and_is_its_code_again(dtype: str) -> None:
    """All codes in each block, under scales of all sizes, none and NaN."""
    limits = np.iinfo(dtype)
    codes = np.tile(np.arange(max(limits.min, -127), limits.max + 1).astype(dtype), ROWS + 4)[: ROWS * BLOCK]
    scales = np.ldexp(np.linspace(1, 2, ROWS, dtype=np.float32), np.arange(ROWS) % 252 - 126).astype(np.float32)
    scales[:3] = 0, np.nan, np.finfo(np.float32).max
    numbers = decoded(dtype, codes, scales)
    with np.errstate(all="ignore"):
        assert_same_bits(numbers, formats.load(FORMAT_OPS, dtype, codes, scales))
        expected = formats.store(FORMAT_OPS, dtype, numbers, 0.25)
    for found, wanted in zip(encoded(dtype, numbers, 0.25), expected, strict=True):
        assert_same_bits(found, wanted)
    again = expected[0].reshape(-1, BLOCK)[3:], codes.reshape(-1, BLOCK)[3:]
    assert (again[0] == again[1]).mean() > (0.9 if dtype == "int8" else 0.2), "few codes came back"


@pytest.mark.parametrize("dtype", PAIRS)
def test_every_16_bit_number_has_the_bits_of_numpy_with_its_rounding_error(dtype: str) -> None:
    """With every error of 8 bits, and with 32 all over the range of those of 16; there and back."""
    error = np.dtype(dtype.partition("+")[2])
    high = np.arange(1 << 16, dtype=np.uint16).view(STORAGES[dtype].carrier)
    limits = np.iinfo(error)
    count = 256 if error == np.int8 else 32
    for part in np.array_split(np.linspace(limits.min, limits.max, count).astype(error), count // 32):
        x, errors = np.repeat(high, part.size), np.tile(part, high.size)
        numbers = decoded(dtype, x, errors)
        with np.errstate(all="ignore"):
            assert_same_bits(numbers, formats.load(FORMAT_OPS, dtype, x, errors))
            expected = formats.store(FORMAT_OPS, dtype, numbers)
        for found, wanted in zip(encoded(dtype, numbers, 0.5), expected, strict=True):
            assert_same_bits(found.view(f"int{8 * found.itemsize}"), wanted.view(f"int{8 * wanted.itemsize}"))


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
    x = x.reshape(-1)
    with np.errstate(all="ignore"):
        expected = formats.store(FORMAT_OPS, dtype, x, number)
    for found, wanted in zip(encoded(dtype, x, number), expected, strict=True):
        if wanted.dtype.itemsize == 2:
            found, wanted = found.view(np.int16), wanted.view(np.int16)
        assert_same_bits(found, wanted)
