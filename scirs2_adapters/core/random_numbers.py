"""Numbers by chance that are the same in every framework, on every device and in every order of work: a hash of counts
and of their places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .format_ops import Function, IntegerOps, MixingOps
from .matrix import COPIES, Matrix
from .ops import Array, Scalar
from .rounding import mixer

#: The bits of a number, which float32 holds; and the factor of places, an odd one.
BITS, ODD = 23, 0x1E3779B1
#: A normal number is the sum of twelve of 16 bits, two from each hash.
HASHES = 6
#: Makes of a function what may be called by a function that a compiler takes.
Inlining = Callable[[Function], Function]


def interpreted(function: Function) -> Function:
    """The function itself, where no compiler is to take it."""
    return function


def uniform(ops: IntegerOps, n: int, turn: Scalar, like: Array) -> Array:
    """n float32 numbers between -1 and 1, all equally likely, on the device of `like`. They depend on `turn`, a whole
    number below 2^24, and on their places alone.
    """
    return uniform_number(ops)(ops.indices(like, n), uniform_key(ops, turn, like))


def normal(ops: IntegerOps, n: int, keys: Sequence[Scalar], like: Array) -> Array:
    """n float32 numbers of mean 0 and variance 1, where `like` is. They depend on the `keys`, whole numbers below 2^24,
    and on their places alone.

    Each is the sum of twelve numbers that are evenly spread: its distribution function is that of a normal one to
    0.0024, and none is beyond 6. Sums of integers have the same bits everywhere; logarithms and cosines, of which
    normal numbers can be made exactly, differ from one library to the next.
    """
    return normal_number(ops)(ops.indices(like, n), normal_key(ops, keys, like))


def uniform_key(ops: IntegerOps, turn: Scalar, like: Array) -> Array:
    """What all numbers of a turn have in common."""
    zero = ops.both(ops.indices(like, 1), ops.integer(0))
    return mixer(ops)(ops.int32(ops.float32(zero) + ops.float32(turn)))


def normal_key(ops: IntegerOps, keys: Sequence[Scalar], like: Array) -> Array:
    """What all numbers of these keys have in common."""
    mixed, zero = mixer(ops), ops.both(ops.indices(like, 1), ops.integer(0))
    key = zero
    for number in keys:
        key = mixed(ops.wrap(key + ops.int32(ops.float32(zero) + ops.float32(number))))
    return key


def uniform_number(ops: MixingOps, inlined: Inlining = interpreted) -> Function:
    """`number(place, key)`: an evenly spread one for each place, for arrays of places or inside a compiled loop."""
    mixed, wrap, right, float32 = inlined(mixer(ops)), ops.wrap, ops.shift_right, ops.float32
    odd, unused, unit = ops.integer(ODD), ops.integer(32 - BITS), 2.0 ** (1 - BITS)

    def number(place: Array, key: Array) -> Array:
        return (float32(right(mixed(wrap(wrap(place * odd) + key)), unused)) + 0.5) * unit

    return number


def normal_number(ops: MixingOps, inlined: Inlining = interpreted) -> Function:
    """`number(place, key)`: a normal one."""
    mixed, wrap, right, both, float32 = inlined(mixer(ops)), ops.wrap, ops.shift_right, ops.both, ops.float32
    odd, none, lower, sixteen = (ops.integer(n) for n in (ODD, 0, 0xFFFF, 16))
    middle, unit = float(HASHES * 0xFFFF), 2.0**-16

    def number(place: Array, key: Array) -> Array:
        bits = mixed(wrap(wrap(place * odd) + key))
        total = both(bits, none)
        for _ in range(HASHES):
            bits = mixed(wrap(bits + odd))
            total = wrap(wrap(total + both(bits, lower)) + both(right(bits, sixteen), lower))
        return (float32(total) - middle) * unit

    return number


def noise(xp: Array, x: Array, *keys: Scalar, matrix: Matrix | None = None) -> Array:
    """Normal numbers in the places of x, which these keys choose."""
    del matrix
    shape = tuple(x.shape)
    return xp.like(xp.reshape(xp.normal(math.prod(shape), keys, x), shape), x)


COPIES |= {noise: 0}
