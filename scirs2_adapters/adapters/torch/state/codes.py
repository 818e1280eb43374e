"""Numbers as other libraries store them in few bits: a code for each number, and a scale for each block of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from scirs2_adapters.core.errors import bad_value

from .tensors import Tensor


class Coded(NamedTuple):
    """Codes of one tensor, which `checked` has looked at: each is the table's number times the scale of its block.

    Arguments:
      codes: uint8, in the shape of the numbers; of 4 bits two in a byte, the first in its upper half. Or float8.
      table: the number of each code; None for float8.
      scales: one for each block of `block` codes.
      size: how many codes there are: 256, 16, or 0 for float8.
      whole: the shape of the numbers, where it is not that of the codes.
    """

    codes: Tensor
    table: Tensor | None
    scales: Tensor
    block: int
    size: int = 256
    whole: Sequence[int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the numbers."""
        return tuple(self.codes.shape if self.whole is None else self.whole)

    def numbers(self) -> Tensor:
        """The numbers, in float32."""
        codes = self.codes.reshape(-1)
        if self.size == 16:
            codes = torch.stack([codes >> 4, codes & 15], -1).reshape(-1)
        numbers = codes.float() if self.table is None else self.table.float()[codes.int()]
        scales = self.scales.float().repeat_interleave(self.block)[: numbers.numel()]
        return (numbers * scales).reshape(self.shape)


def checked(call: str, place: str, x: Coded) -> Coded:
    """The codes, or an error that says what of them is missing; `place` is where the state dict has them."""
    dtype, said = (torch.uint8, "uint8") if x.size else (torch.float8_e4m3fn, "float8_e4m3fn")
    if not isinstance(x.codes, Tensor) or x.codes.dtype != dtype:
        raise bad_value(call, place, f"must be a tensor of numbers or of {said} codes", x.codes)
    if x.size and (not isinstance(x.table, Tensor) or x.table.shape != (x.size,)):
        raise bad_value(call, place, f"must come with the table of its {x.size} codes, qmap", x.table)
    count = x.codes.numel() * (2 if x.size == 16 else 1)
    if count != math.prod(x.shape):
        raise bad_value(call, place, f"must have a code for each number of shape {x.shape}", f"{count} codes")
    wanted = (-(-count // max(x.block, 1)),)
    if not isinstance(x.scales, Tensor) or x.scales.shape != wanted:
        raise bad_value(
            call, place, f"must come with scales of shape {wanted}, for blocks of {x.block} codes", x.scales
        )
    return x
