"""Numbers by chance that are the same in every framework, on every device and in every order of work: a hash of a
count and of their places.
"""

from __future__ import annotations

from .format_ops import IntegerOps
from .ops import Array, Scalar
from .rounding import mixer

#: The bits of a number, which float32 holds; and the factor of places, an odd one.
BITS, ODD = 23, 0x1E3779B1


def uniform(ops: IntegerOps, n: int, turn: Scalar, like: Array) -> Array:
    """n float32 numbers between -1 and 1, all equally likely, on the device of `like`. They depend on `turn`, a whole
    number below 2^24, and on their places alone.
    """
    mixed, wrap, places = mixer(ops), ops.wrap, ops.indices(like, n)
    key = mixed(ops.int32(ops.float32(ops.both(places, ops.integer(0))) + ops.float32(turn)))
    bits = ops.shift_right(mixed(wrap(wrap(places * ops.integer(ODD)) + key)), ops.integer(32 - BITS))
    return (ops.float32(bits) + 0.5) * 2.0 ** (1 - BITS)
