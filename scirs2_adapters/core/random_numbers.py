"""Numbers by chance that are the same in every framework, on every device and in every order of work: a hash of counts
and of their places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .format_ops import IntegerOps
from .matrix import COPIES, Matrix
from .ops import Array, Scalar
from .rounding import mixer

#: The bits of a number, which float32 holds; and the factor of places, an odd one.
BITS, ODD = 23, 0x1E3779B1
#: A normal number is the sum of twelve of 16 bits, two from each hash.
HASHES = 6


def uniform(ops: IntegerOps, n: int, turn: Scalar, like: Array) -> Array:
    """n float32 numbers between -1 and 1, all equally likely, on the device of `like`. They depend on `turn`, a whole
    number below 2^24, and on their places alone.
    """
    mixed, wrap, places = mixer(ops), ops.wrap, ops.indices(like, n)
    key = mixed(ops.int32(ops.float32(ops.both(places, ops.integer(0))) + ops.float32(turn)))
    bits = ops.shift_right(mixed(wrap(wrap(places * ops.integer(ODD)) + key)), ops.integer(32 - BITS))
    return (ops.float32(bits) + 0.5) * 2.0 ** (1 - BITS)


def normal(ops: IntegerOps, n: int, keys: Sequence[Scalar], like: Array) -> Array:
    """n float32 numbers of mean 0 and variance 1, where `like` is. They depend on the `keys`, whole numbers below 2^24,
    and on their places alone.

    Each is the sum of twelve numbers that are evenly spread: its distribution function is that of a normal one to
    0.0024, and none is beyond 6. Sums of integers have the same bits everywhere; logarithms and cosines, of which
    normal numbers can be made exactly, differ from one library to the next.
    """
    mixed, wrap, odd = mixer(ops), ops.wrap, ops.integer(ODD)
    none, lower, sixteen = ops.integer(0), ops.integer(0xFFFF), ops.integer(16)
    key = ops.both(ops.indices(like, 1), none)
    for number in keys:
        key = mixed(wrap(key + ops.int32(ops.float32(ops.both(key, none)) + ops.float32(number))))
    bits = mixed(wrap(wrap(ops.indices(like, n) * odd) + key))
    total = ops.both(bits, none)
    for _ in range(HASHES):
        bits = mixed(wrap(bits + odd))
        halves = ops.both(bits, lower), ops.both(ops.shift_right(bits, sixteen), lower)
        total = wrap(wrap(total + halves[0]) + halves[1])
    return (ops.float32(total) - float(HASHES * 0xFFFF)) * 2.0**-16


def noise(xp: Array, x: Array, *keys: Scalar, matrix: Matrix | None = None) -> Array:
    """Normal numbers in the places of x, which these keys choose."""
    del matrix
    shape = tuple(x.shape)
    return xp.like(xp.reshape(xp.normal(math.prod(shape), keys, x), shape), x)


COPIES |= {noise: 5}
