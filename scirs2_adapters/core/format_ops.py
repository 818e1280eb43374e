"""What the storage formats need of whoever runs them: a framework's arrays, or a kernel's scalars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .ops import Array

Function = Callable[..., Array]


class MixingOps(Protocol):
    """What a hash needs of int32 numbers besides the operators.

    `integer` makes an int32 constant; `int32` drops the fraction, `float32` is the way back; `wrap` makes an int32 of a
    result that may have become wider; `both` is the bits that two integers share, `xor` those in which they differ.
    """

    integer: Callable[[int], Array]
    int32: Function
    float32: Function
    wrap: Function
    shift_right: Function
    both: Function
    xor: Function


class IntegerOps(MixingOps, Protocol):
    """The same for arrays. `indices(x, n)` are the int32 numbers from 0 to n - 1, on the device of x."""

    indices: Callable[[Array, int], Array]


class FormatOps(MixingOps, Protocol):
    """What the formats need of a framework's arrays, or of a kernel's scalars, besides the operators.

    `number` makes a float32 constant; `bits` and `from_bits` see float32 as int32 and back. `half_bits` rounds float32
    to float16 and sees that as an int32 from 0 to 65535; `from_half_bits` is the way back.
    """

    number: Callable[[float], Array]
    where: Function
    sqrt: Function
    abs: Function
    bits: Function
    from_bits: Function
    shift_left: Function
    half_bits: Function
    from_half_bits: Function


class ArrayFormatOps(FormatOps, IntegerOps, Protocol):
    """The same for arrays, which have shapes and dtypes.

    `cast(x, dtype)` converts integers, of which it keeps the lower bits. `rows(x, n)` fills up the flat array with
    zeros and makes n rows of it, `unrows(x, shape)` is the way back. `largest` is the maximum along rows, as a column.
    `code(x)` sees 16-bit numbers as an int32, `uncode(x, dtype)` is the way back.
    """

    cast: Callable[[Array, str], Array]
    rows: Callable[[Array, int], Array]
    unrows: Callable[[Array, tuple[int, ...]], Array]
    largest: Function
    code: Function
    uncode: Callable[[Array, str], Array]
