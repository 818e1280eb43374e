"""The codes with which torch memory of 8 bits begins."""

import contextlib
import math
from collections.abc import Iterator

import pytest
import torch

from scirs2_adapters.adapters.torch.state import coded


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("number", [0.0, 0.1, -0.3, math.inf, math.nan], ids=str)
@pytest.mark.parametrize("shape", [(), (255,), (3, 200), (0, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_first_codes_are_those_of_an_array_of_the_number(number: float, shape: tuple[int, ...], dtype: str) -> None:
    expected = coded.encoded(dtype, torch.full(shape, number))
    with default_dtype(torch.float64):  # a user's setting
        parts = coded.filled(dtype, torch.empty(shape, dtype=torch.bfloat16), number)
    for part, like in zip(parts, expected, strict=True):
        assert part.dtype == like.dtype
        torch.testing.assert_close(part, like, rtol=0, atol=0, equal_nan=True)
        assert part.is_contiguous()
