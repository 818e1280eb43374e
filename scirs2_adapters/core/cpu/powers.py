"""`power` in generated kernels: a cube root by arithmetic alone, any other power by the C library.

`pow` of the C library takes some fifteen times as long as loads and stores of a step, and no processor steps several
numbers at once by it. A cube root begins at a number whose bits are a third of those of x, which is within 4 % of it,
and goes on by Halley's method, y = y * (1 + 2 q) / (2 + q) with q = x / y^3, which triples the right digits.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba import types

from ..format_ops import Function
from .intrinsics import make_intrinsic

_INTEGERS = {"float32": types.int32, "float64": types.int64}
_FLOATS = {"float32": types.float32, "float64": types.float64}
_CARRIERS = {"float32": (ir.FloatType(), ir.IntType(32)), "float64": (ir.DoubleType(), ir.IntType(64))}
#: What a third of the bits of x lacks to the bits of its root; and how often Halley's method is applied.
_BEGIN = {"float32": (709921077, 2), "float64": (715094163 << 32, 3)}
#: Outside of these powers of 2, x is multiplied by another first, so that nothing overflows or loses digits.
_SMALL, _LARGE, _SHIFT = -90, 90, 72

_function = numba.njit(error_model="numpy", forceinline=True)


def make_power(compute: str) -> Function:
    """`power(x, exponent)` of an x >= 0 in this dtype. Where the exponent is a third, NaN and infinity stay as they
    are, and the root is within 3 units of its last place.
    """
    number, third = np.dtype(compute).type, np.dtype(compute).type(1 / 3)
    cube_root = _cube_root(compute)

    @_function
    def power(x, exponent):  # type: ignore[no-untyped-def]
        return cube_root(x) if exponent == third else number(np.power(x, exponent))

    return power  # type: ignore[no-any-return]


def _cube_root(compute: str) -> Function:
    number, (carrier, integer) = np.dtype(compute).type, _CARRIERS[compute]
    begin, rounds = _BEGIN[compute]
    begin, three = (
        np.dtype(compute.replace("float", "int")).type(begin),
        np.dtype(compute.replace("float", "int")).type(3),
    )
    zero, one, two, infinity = number(0), number(1), number(2), number(np.inf)
    small, large, up, down = (number(2.0**n) for n in (_SMALL, _LARGE, _SHIFT, -_SHIFT))
    root_up, root_down = (number(2.0**n) for n in (_SHIFT // 3, -_SHIFT // 3))
    bits = make_intrinsic(_INTEGERS[compute](_FLOATS[compute]))(lambda builder, x: builder.bitcast(x, integer))
    from_bits = make_intrinsic(_FLOATS[compute](_INTEGERS[compute]))(lambda builder, x: builder.bitcast(x, carrier))

    @_function
    def cube_root(x):  # type: ignore[no-untyped-def]
        scaled = x * (up if x < small else down if x > large else one)
        y = from_bits(bits(scaled) // three + begin)
        for _ in range(rounds):
            q = scaled / (y * y * y)
            y = y * ((one + two * q) / (two + q))
        y = y * (root_down if x < small else root_up if x > large else one)
        return y if (x > zero) & (x < infinity) else x

    return cube_root  # type: ignore[no-any-return]
