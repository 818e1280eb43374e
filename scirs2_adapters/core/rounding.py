"""16-bit parameters that learn: numbers with their rounding error, and stochastic rounding.

Pairs split a float32 number: the first part is the number in 16 bits, the second what rounding took from it, in units
of 2^-8 (int8) or 2^-16 (int16) of the last place. With int16, bfloat16 pairs hold every float32 number exactly.

Stochastic rounding goes to the next number of 16 bits above or below, more often to the nearer one, so that the mean is
right. What decides is a hash of the parameter's seed, the step and the element's place: neither threads nor a resumed
run change it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .format_ops import FormatOps, Function, MixingOps
from .ops import Array

#: The dtypes of a rounding error, with its bits.
ERROR_BITS = {"int8": 8, "int16": 16}
#: What a parameter's rounding error is called among its arrays.
ROUNDING_ERROR = "rounding_error"
#: How the storage of a parameter that is rounded at random ends, and what its seed is called: one int32.
STOCHASTIC = "+stochastic"
ROUNDING_SEED = "rounding_seed"


class Pair(NamedTuple):
    """`split(x)` gives 16 bits, as an int32 of which the lower half counts, and the rounding error's code; `join` makes
    the number of both.
    """

    split: Function
    join: Function


def bfloat16_pair(ops: FormatOps, error_bits: int) -> Pair:
    """bfloat16 and an error of 8 or 16 bits: a float32 number's bits cut in two, the lower part signed.

    Ties between two bfloat16 numbers go away from zero, so that the error is in the range of its integers. NaN has the
    error 0. The errors of a zero point away from it: a negative one is of another number that was there before, as
    where a constraint made it 0, and would end as NaN.
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
        # A parameter that was set to 0 since: an error below it would be a NaN.
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


def mixer(ops: MixingOps) -> Function:
    """A hash of int32 numbers, lowbias32 of github.com/skeeto/hash-prospector."""
    wrap, right, both, xor = ops.wrap, ops.shift_right, ops.both, ops.xor
    sixteen, fifteen, lower, upper = (ops.integer(n) for n in (16, 15, 0xFFFF, 0x1FFFF))
    first, second = ops.integer(0x7FEB352D), ops.integer(0x846CA68B - (1 << 32))

    def mixed(x: Array) -> Array:
        x = wrap(xor(x, both(right(x, sixteen), lower)) * first)
        x = wrap(xor(x, both(right(x, fifteen), upper)) * second)
        return xor(x, both(right(x, sixteen), lower))

    return mixed


def random_bits(ops: FormatOps, mixed: Function) -> Function:
    """`bits(seed, number, i)`: 16 random bits for element `i`, at the step whose `dither` is this number; `mixed` is
    the `mixer`.
    """
    int32, float32, wrap, both = ops.int32, ops.float32, ops.wrap, ops.both
    lower, none, odd, places = ops.integer(0xFFFF), ops.integer(0), ops.integer(0x1E3779B1), ops.number(2.0**24)

    def bits(seed: Array, number: Array, i: Array) -> Array:
        step = int32(float32(both(seed, none)) + number * places)  # an array where the seed is one
        key = mixed(wrap(seed + mixed(step)))
        return both(mixed(wrap(wrap(i * odd) + key)), lower)

    return bits


class Stochastic(NamedTuple):
    """`round(x, random)` gives 16 bits, as an int32 of which the lower half counts; `widen` makes the number again."""

    round: Function
    widen: Function


def bfloat16_stochastic(ops: FormatOps) -> Stochastic:
    """Rounding of float32 to bfloat16 by random bits in the place of those that are dropped."""
    where, bits, from_bits, wrap = ops.where, ops.bits, ops.from_bits, ops.wrap
    left, right, sixteen, quiet = ops.shift_left, ops.shift_right, ops.integer(16), ops.integer(0x7FC0)

    def round(x: Array, random: Array) -> Array:
        return where(x == x, wrap(right(wrap(bits(x) + random), sixteen)), quiet)

    def widen(high: Array) -> Array:
        return from_bits(wrap(left(high, sixteen)))

    return Stochastic(round, widen)


def float16_stochastic(ops: FormatOps) -> Stochastic:
    """Rounding of float32 to float16; subnormal numbers too are right in the mean."""
    where, absolute, int32, float32, from_bits = ops.where, ops.abs, ops.int32, ops.float32, ops.from_bits
    wrap, left, right, both = ops.wrap, ops.shift_left, ops.shift_right, ops.both
    zero, infinite, share = (ops.number(x) for x in (0.0, math.inf, 2.0**-13))
    mask, least, mantissa, three, sixteen = (ops.integer(n) for n in (255, 113, 23, 3, 16))
    sign, ten, up = ops.integer(0x8000), ops.integer(10), ops.integer(264)
    bits, half_bits, from_half_bits = ops.bits, ops.half_bits, ops.from_half_bits

    def round(x: Array, random: Array) -> Array:
        b, size = bits(x), absolute(x)
        exponent = both(right(b, mantissa), mask)
        exponent = where(exponent < least, least, exponent)
        units = where(size < infinite, size, zero) * from_bits(wrap(left(wrap(up - exponent), mantissa)))
        whole = float32(int32(units + float32(right(random, three)) * share))
        rounded = whole * from_bits(wrap(left(wrap(exponent - ten), mantissa)))
        magnitude = half_bits(where(size < infinite, rounded, size))
        return wrap(magnitude + both(right(b, sixteen), sign))

    def widen(high: Array) -> Array:
        return from_half_bits(high)

    return Stochastic(round, widen)


def stochastic_of(ops: FormatOps, dtype: str) -> Stochastic:
    """The functions of a stochastic storage, "bfloat16+stochastic" for one."""
    return (bfloat16_stochastic if dtype.startswith("bfloat16") else float16_stochastic)(ops)


def pair_of(ops: FormatOps, dtype: str) -> Pair:
    """The functions of a pair's storage, "bfloat16+int8" for one."""
    stored, error = dtype.split("+")
    return (bfloat16_pair if stored == "bfloat16" else float16_pair)(ops, ERROR_BITS[error])
