"""Storage formats of fewer bits than the arithmetic: 8-bit slots in blocks, and 16-bit parameters with their rounding
error or with stochastic rounding (`core/rounding.py`).

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
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .format_ops import ArrayFormatOps, FormatOps, Function
from .ops import Array, Scalar
from .rounding import ROUNDING_ERROR, ROUNDING_SEED, STOCHASTIC, mixer, pair_of, random_bits, stochastic_of

#: Numbers that share one scale.
BLOCK = 256
#: Below this many numbers a slot in blocks is kept in float32: it would save nothing that counts.
SMALLEST = 4096
#: Blocks whose largest magnitude is smaller are zeros: its reciprocal would not be finite.
TINY = float(np.finfo(np.float32).tiny)
#: Its multiples, without their integers, fill the range from 0 to 1 evenly, however many there are.
GOLDEN = 0.6180339887498949
#: The same in units of 2^-64.
FRACTION = int(GOLDEN * 2.0**64)

#: The dtypes of codes in blocks.
BLOCK_DTYPES = ("int8", "uint8")
#: What the step's number for dithered and stochastic rounding is called among its coefficients.
DITHER = "dither"


def companion(name: str, dtype: str) -> str | None:
    """The name of the array that an array of this storage needs beside it: scales, a rounding error or a seed."""
    if dtype in BLOCK_DTYPES:
        return f"{name}_scale"
    if dtype.endswith(STOCHASTIC):
        return ROUNDING_SEED
    return ROUNDING_ERROR if "+" in dtype else None


def blocks(count: int) -> int:
    """How many blocks so many numbers take."""
    return -(-count // BLOCK)


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
    if isinstance(t, (int, float)):  # 48 bits, as `counted_dither` has them
        return (int(t) * FRACTION >> 16 & (1 << 48) - 1) * 2.0**-48
    return t * GOLDEN % 1.0


def counted_dither(ops: FormatOps, t: Array) -> Array:
    """`dither` of a step that is an int32 array, the same bits: by integers of 16 and 32 bits, because in float32 the
    product with a large count has no fraction left.
    """
    wrap, float32, number = ops.wrap, ops.float32, ops.number
    upper, middle, lower = FRACTION >> 32, FRACTION >> 16 & 0xFFFF, FRACTION & 0xFFFF

    def word(n: int) -> Array:
        return ops.integer((n + (1 << 31)) % (1 << 32) - (1 << 31))

    def low(x: Array, n: int) -> Array:
        return x % word(1 << n)

    def high(x: Array, n: int) -> Array:
        return low(x // word(1 << n), 32 - n)

    first = wrap(high(t, 16) * word(lower) + high(wrap(low(t, 16) * word(lower)), 16))
    second = wrap(low(t, 16) * word(middle) + low(first, 16))
    top = wrap(t * word(upper) + high(t, 16) * word(middle) + high(first, 16) + high(second, 16))
    rest = wrap(low(top, 8) * word(1 << 16) + high(wrap(t * word(FRACTION)), 16))
    return float32(high(top, 8)) * number(2.0**-24) + float32(rest) * number(2.0**-48)


def thresholds(ops: FormatOps) -> Function:
    """`threshold(i, number)`: how near the upper code element `i` of a block must be to go there, by this number of the
    step.
    """
    float32, int32, golden = ops.float32, ops.int32, ops.number(GOLDEN)

    def threshold(i: Array, number: Array) -> Array:
        u = float32(i) * golden + number
        return u - float32(int32(u))

    return threshold


def codec_of(ops: FormatOps, dtype: str) -> Codec:
    """The functions of codes in blocks: signed ones of int8, unsigned ones of uint8."""
    return (signed if dtype == "int8" else unsigned)(ops)


def load(ops: ArrayFormatOps, dtype: str, x: Array, other: Array) -> Array:
    """The float32 numbers of an array of this storage and its companion."""
    if dtype.endswith(STOCHASTIC):
        return stochastic_of(ops, dtype).widen(ops.code(x))
    if dtype not in BLOCK_DTYPES:
        return pair_of(ops, dtype).join(ops.code(x), ops.cast(other, "int32"))
    count = other.shape[0]
    scales = ops.unrows(other, (count, 1))
    codes = ops.cast(ops.rows(x, count), "int32")
    return ops.unrows(codec_of(ops, dtype).decode(codes, scales), tuple(x.shape))


def store(ops: ArrayFormatOps, dtype: str, x: Array, number: Scalar = 0.5, other: Array = None) -> tuple[Array, Array]:
    """An array of this storage that holds these float32 numbers, and its companion; `number` is the step's `dither`,
    and `other` the seed of stochastic rounding, which stays as it is.
    """
    if dtype.endswith(STOCHASTIC):
        places = ops.unrows(ops.indices(x, math.prod(x.shape)), tuple(x.shape))
        high = stochastic_of(ops, dtype).round(x, random_bits(ops, mixer(ops))(other, ops.float32(number), places))
        return ops.uncode(high, dtype.removesuffix(STOCHASTIC)), other
    if dtype in BLOCK_DTYPES:
        return _store_blocks(ops, dtype, x, number)
    high, error = pair_of(ops, dtype).split(x)
    stored, error_dtype = dtype.split("+")
    return ops.uncode(high, stored), ops.cast(error, error_dtype)


def _store_blocks(ops: ArrayFormatOps, dtype: str, x: Array, number: Scalar) -> tuple[Array, Array]:
    zero, one, tiny = ops.number(0.0), ops.number(1.0), ops.number(TINY)
    count = blocks(math.prod(x.shape))
    numbers = ops.rows(x, count)
    top = ops.largest(ops.where(numbers == numbers, ops.abs(numbers), ops.number(math.inf)))
    finite = top < math.inf
    scale = ops.where(finite, ops.where(top < tiny, zero, top), ops.number(math.nan))
    inverse = ops.where(scale > zero, one / ops.where(scale > zero, scale, one), zero)
    places = ops.indices(numbers, BLOCK)
    u = ops.number(0.5) if dtype == "int8" else thresholds(ops)(places, ops.float32(number))
    codes = codec_of(ops, dtype).encode(ops.where(finite, numbers, zero), inverse, u)
    return ops.cast(ops.unrows(codes, tuple(x.shape)), dtype), ops.unrows(scale, (count,))
