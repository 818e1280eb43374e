"""Storage formats of fewer bits than the arithmetic: 8-bit slots in blocks, and 16-bit parameters with their rounding
error.

Each format is a pair of functions of single numbers, `encode` and `decode`, made by a factory from the operations of
whoever runs them (`FormatOps`): a compiled kernel calls them on scalars, a framework on arrays. All of their arithmetic
is float32, and multiplications by reciprocals are exact at the ends of each range, so that a decoded number encodes to
the same code again.

Blocks of 256 numbers share a scale, the largest magnitude in the block. A code is a root of a number's share of it, so
that steps are finer where numbers are smaller:

  signed    x = scale * sign(q) * (q / 127)^2     for q from -127 to 127
  unsigned  x = scale * (q / 255)^4               for q from 0 to 255; what is not 0 never becomes 0

Signed codes are rounded to the nearest. Unsigned ones are dithered (`dither`): a mean of squares would not decay else.

A block of zeros, or of numbers below the smallest normal float32, has the scale 0. A block with an infinity or a NaN
has the scale NaN, and all of it decodes to NaN.

Pairs split a float32 number: the first part is the number in 16 bits, the second what rounding took from it, in units
of 2^-8 (int8) or 2^-16 (int16) of the last place. With int16, bfloat16 pairs hold every float32 number exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from .ops import Array, Scalar

#: Numbers that share one scale.
BLOCK = 256
#: Below this many numbers a slot in blocks is kept in float32: it would save nothing that counts.
SMALLEST = 4096
#: Blocks whose largest magnitude is smaller are zeros: its reciprocal would not be finite.
TINY = float(np.finfo(np.float32).tiny)
#: Its multiples, without their integers, fill the range from 0 to 1 evenly, however many there are.
GOLDEN = 0.6180339887498949

Function = Callable[..., Array]


#: The dtypes of codes in blocks, and of a rounding error, with its bits.
BLOCK_DTYPES = ("int8", "uint8")
ERROR_BITS = {"int8": 8, "int16": 16}
#: What a parameter's rounding error is called among its arrays.
ROUNDING_ERROR = "rounding_error"
#: What the step's number for the rounding of unsigned codes is called among its coefficients.
DITHER = "dither"


def companion(name: str, dtype: str) -> str | None:
    """The name of the array that an array of this storage needs beside it: its scales, or its rounding error."""
    if dtype in BLOCK_DTYPES:
        return f"{name}_scale"
    return ROUNDING_ERROR if "+" in dtype else None


def blocks(count: int) -> int:
    """How many blocks so many numbers take."""
    return -(-count // BLOCK)


class FormatOps(Protocol):
    """What the formats need of a framework's arrays, or of a kernel's scalars, besides the operators.

    `number` makes a float32 constant and `integer` an int32 one; `int32` drops the fraction; `bits` and `from_bits` see
    float32 as int32 and back; `wrap` makes an int32 of a result that may have become wider; `both` is the bits that two
    integers share. `half_bits` rounds float32 to float16 and sees that as an int32 from 0 to 65535; `from_half_bits` is
    the way back.
    """

    number: Callable[[float], Array]
    integer: Callable[[int], Array]
    where: Function
    sqrt: Function
    abs: Function
    int32: Function
    float32: Function
    bits: Function
    from_bits: Function
    wrap: Function
    shift_left: Function
    shift_right: Function
    both: Function
    half_bits: Function
    from_half_bits: Function


class ArrayFormatOps(FormatOps, Protocol):
    """The same for arrays, which have shapes and dtypes.

    `cast(x, dtype)` converts integers, of which it keeps the lower bits. `rows(x, n)` fills up the flat array with
    zeros and makes n rows of it, `unrows(x, shape)` is the way back. `largest` is the maximum along rows, as a column.
    `code(x)` sees 16-bit numbers as an int32, `uncode(x, dtype)` is the way back. `indices(x)` are the elements' places
    in each of these rows, as int32.
    """

    cast: Callable[[Array, str], Array]
    rows: Callable[[Array, int], Array]
    unrows: Callable[[Array, tuple[int, ...]], Array]
    largest: Function
    code: Function
    uncode: Callable[[Array, str], Array]
    indices: Function


class Codec(NamedTuple):
    """`encode(x, 1 / scale, u)` gives a code, `decode(code, scale)` the number again. A number between two codes goes
    to the upper one if it is within `u`, from 0 to 1, of it: to the nearest for 0.5.
    """

    encode: Function
    decode: Function


def signed(ops: FormatOps) -> Codec:
    """Codes from -127 to 127 whose squares are the numbers."""
    sqrt, absolute, where, int32, float32 = ops.sqrt, ops.abs, ops.where, ops.int32, ops.float32
    zero, top, unit = (ops.number(x) for x in (0.0, 127.0, 1 / 16129))

    def encode(x: Array, inverse: Array, u: Array) -> Array:
        q = sqrt(absolute(x) * inverse) * top + u
        q = int32(where(q < top, q, top))
        return where(x < zero, -q, q)

    def decode(code: Array, scale: Array) -> Array:
        q = float32(code)
        return q * absolute(q) * unit * scale

    return Codec(encode, decode)


def unsigned(ops: FormatOps) -> Codec:
    """Codes from 0 to 255 whose fourth powers are the numbers; negative numbers are stored as 0."""
    sqrt, where, int32, float32 = ops.sqrt, ops.where, ops.int32, ops.float32
    zero, top, unit, one = (ops.number(x) for x in (0.0, 255.0, 1 / 65025, 1.0))

    def encode(x: Array, inverse: Array, u: Array) -> Array:
        share = where(x > zero, x, zero) * inverse
        q = sqrt(sqrt(share)) * top + u
        q = where(q < top, q, top)
        return int32(where(q < one, where(share > zero, one, zero), q))

    def decode(code: Array, scale: Array) -> Array:
        q = float32(code)
        root = q * q * unit
        return root * root * scale

    return Codec(encode, decode)


def dither(t: Scalar) -> Scalar:
    """The number of step `t` by which unsigned codes are rounded: a multiple of the golden ratio, without its integer.

    A mean of squares changes by a thousandth at a step and its codes are 16 thousandths apart, so that to the nearest
    code it would stay where it is for ever. Each number is rounded by its step's number plus its element's, and so in
    the mean over steps as it should be.
    """
    return t * GOLDEN % 1.0


def thresholds(ops: FormatOps) -> Function:
    """`threshold(i, number)`: how near the upper code element `i` of a block must be to go there, by this number of the
    step.
    """
    float32, int32, golden = ops.float32, ops.int32, ops.number(GOLDEN)

    def threshold(i: Array, number: Array) -> Array:
        u = float32(i) * golden + number
        return u - float32(int32(u))

    return threshold


class Pair(NamedTuple):
    """`split(x)` gives 16 bits, as an int32 of which the lower half counts, and the rounding error's code; `join` makes
    the number of both.
    """

    split: Function
    join: Function


def bfloat16_pair(ops: FormatOps, error_bits: int) -> Pair:
    """bfloat16 and an error of 8 or 16 bits: a float32 number's bits cut in two, the lower part signed.

    Ties between two bfloat16 numbers go away from zero, so that the error is in the range of its integers. NaN has the
    error 0. The errors of a zero point away from it: a negative one is of another number that was there before, as where
    a constraint made it 0, and would end as NaN.
    """
    where, bits, from_bits, wrap = ops.where, ops.bits, ops.from_bits, ops.wrap
    left, right, both = ops.shift_left, ops.shift_right, ops.both
    dropped = 16 - error_bits
    shift, width, one, quiet, zero, size = (ops.integer(n) for n in (dropped, error_bits, 1, 0x7FC0, 0, 0x7FFF))
    nearest, half = ops.integer((1 << dropped >> 1) - 1), ops.integer(1 << error_bits >> 1)

    def split(x: Array) -> tuple[Array, Array]:
        b = bits(x)
        if dropped:
            b = wrap(right(wrap(b + wrap(nearest + both(right(b, shift), one))), shift))
        high = wrap(right(wrap(b + half), width))
        error = wrap(b - wrap(left(high, width)))
        return where(x == x, high, quiet), where(x == x, error, zero)

    def join(high: Array, error: Array) -> Array:
        error = where(both(high, size) == zero, where(error < zero, zero, error), error)
        return from_bits(wrap(left(wrap(wrap(left(high, width)) + error), shift)))

    return Pair(split, join)


def float16_pair(ops: FormatOps, error_bits: int) -> Pair:
    """float16 and an error of 8 or 16 bits, in units of the last place; exact with 16 where float16 is normal."""
    where, int32, float32, from_bits = ops.where, ops.int32, ops.float32, ops.from_bits
    half_bits, from_half_bits, wrap = ops.half_bits, ops.from_half_bits, ops.wrap
    left, right, both = ops.shift_left, ops.shift_right, ops.both
    most = 2.0 ** (error_bits - 1) - 1
    low, high, half, zero = (ops.number(x) for x in (-most, most, 0.5, 0.0))
    ten, mask, one, mantissa = (ops.integer(n) for n in (10, 31, 1, 23))
    small, large = ops.integer(127 - 25 - error_bits), ops.integer(127 + 25 + error_bits)

    def split(x: Array) -> tuple[Array, Array]:
        h = half_bits(x)
        exponent = wrap(both(right(h, ten), mask))
        exponent = where(exponent < one, one, exponent)
        error = (x - from_half_bits(h)) * from_bits(wrap(left(wrap(large - exponent), mantissa)))
        error = where(error == error, error, zero)
        error = where(error < low, low, where(error > high, high, error))
        return h, int32(where(error < zero, error - half, error + half))

    def join(h: Array, error: Array) -> Array:
        exponent = wrap(both(right(h, ten), mask))
        exponent = where(exponent < one, one, exponent)
        return from_half_bits(h) + float32(error) * from_bits(wrap(left(wrap(small + exponent), mantissa)))

    return Pair(split, join)


def pair_of(ops: FormatOps, dtype: str) -> Pair:
    """The functions of a pair's storage, "bfloat16+int8" for one."""
    stored, error = dtype.split("+")
    return (bfloat16_pair if stored == "bfloat16" else float16_pair)(ops, ERROR_BITS[error])


def codec_of(ops: FormatOps, dtype: str) -> Codec:
    """The functions of codes in blocks: signed ones of int8, unsigned ones of uint8."""
    return (signed if dtype == "int8" else unsigned)(ops)


def load(ops: ArrayFormatOps, dtype: str, x: Array, other: Array) -> Array:
    """The float32 numbers of an array of this storage and its companion."""
    if dtype not in BLOCK_DTYPES:
        return pair_of(ops, dtype).join(ops.code(x), ops.cast(other, "int32"))
    count = other.shape[0]
    scales = ops.unrows(other, (count, 1))
    codes = ops.cast(ops.rows(x, count), "int32")
    return ops.unrows(codec_of(ops, dtype).decode(codes, scales), tuple(x.shape))


def store(ops: ArrayFormatOps, dtype: str, x: Array, number: Scalar = 0.5) -> tuple[Array, Array]:
    """An array of this storage that holds these float32 numbers, and its companion; `number` is the step's `dither`."""
    if dtype not in BLOCK_DTYPES:
        high, error = pair_of(ops, dtype).split(x)
        stored, error_dtype = dtype.split("+")
        return ops.uncode(high, stored), ops.cast(error, error_dtype)
    zero, one, tiny = ops.number(0.0), ops.number(1.0), ops.number(TINY)
    count = blocks(math.prod(x.shape))
    numbers = ops.rows(x, count)
    top = ops.largest(ops.where(numbers == numbers, ops.abs(numbers), ops.number(math.inf)))
    finite = top < math.inf
    scale = ops.where(finite, ops.where(top < tiny, zero, top), ops.number(math.nan))
    inverse = ops.where(scale > zero, one / ops.where(scale > zero, scale, one), zero)
    u = ops.number(0.5) if dtype == "int8" else thresholds(ops)(ops.indices(numbers), ops.float32(number))
    codes = codec_of(ops, dtype).encode(ops.where(finite, numbers, zero), inverse, u)
    return ops.cast(ops.unrows(codes, tuple(x.shape)), dtype), ops.unrows(scale, (count,))
