"""The formats of `core.formats` in generated kernels: what loads and stores arrays that have a companion.

A pair is loaded and stored number by number. A block is loaded number by number too, with its scale; its new numbers go
to a scratch buffer first, because their scale is known only when all of them are.
"""

from __future__ import annotations

import operator
from types import SimpleNamespace

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from ..format_ops import Function
from ..formats import BLOCK, TINY, codec_of, thresholds
from ..rounding import STOCHASTIC, mixer, pair_of, random_bits, stochastic_of
from .intrinsics import make_intrinsic, make_load, make_load_bits, make_store, make_store_bits

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_FLOAT, _HALF = ir.FloatType(), ir.HalfType()
_float32 = make_intrinsic(types.float32(types.int32))
_int32 = make_intrinsic(types.int32(types.float32))

#: Compiled into the kernel that calls it; object code refers to nothing of numba's run time, which may not be loaded.
_function = numba.njit(error_model="numpy", forceinline=True)


@_int32
def _half_bits(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return builder.zext(builder.bitcast(builder.fptrunc(x, _HALF), _I16), _I32)


@_float32
def _from_half_bits(builder: ir.IRBuilder, h: ir.Value) -> ir.Value:
    return builder.fpext(builder.bitcast(builder.trunc(h, _I16), _HALF), _FLOAT)


@make_intrinsic(types.intp())
def scratch(builder: ir.IRBuilder) -> ir.Value:
    """The address of a block of float32 numbers on the stack."""
    return builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(_FLOAT, BLOCK)), _I64)


@_function
def _where(condition, a, b):  # type: ignore[no-untyped-def]
    return a if condition else b


@_function
def _nearest(i, number):  # type: ignore[no-untyped-def]
    return np.float32(0.5)


#: The operations of the formats on a kernel's scalars.
SCALAR_OPS = SimpleNamespace(
    number=np.float32,
    integer=np.int32,
    where=_where,
    sqrt=np.sqrt,
    abs=np.abs,
    int32=_int32(lambda builder, x: builder.fptosi(x, _I32)),
    float32=_float32(lambda builder, x: builder.sitofp(x, _FLOAT)),
    bits=_int32(lambda builder, x: builder.bitcast(x, _I32)),
    from_bits=_float32(lambda builder, x: builder.bitcast(x, _FLOAT)),
    wrap=np.int32,
    shift_left=operator.lshift,
    shift_right=operator.rshift,
    both=operator.and_,
    xor=operator.xor,
    half_bits=_half_bits,
    from_half_bits=_from_half_bits,
)
_wide = {"float32": np.float32, "float64": np.float64}


def functions(dtype: str, compute: str, array: int, other: int | None, arrays: int) -> dict[str, object]:
    """What a kernel calls for an array of this storage; `array` and `other` are the alias scopes of it and of its
    companion, if it has one.
    """
    if other is None:
        return {"load": make_load(dtype, compute, array, arrays), "store": make_store(dtype, compute, array, arrays)}
    if dtype.endswith(STOCHASTIC):
        return stochastic_functions(dtype, compute, array, other, arrays)
    return (pair_functions if "+" in dtype else block_functions)(dtype, compute, array, other, arrays)


def block_functions(dtype: str, compute: str, codes: int, scales: int, arrays: int) -> dict[str, object]:
    """`load(address, scale, i)`, `scale(address, block)`, `store(buffer, i, x)` and `encode` of an array in blocks."""
    load_code: Function = make_load_bits(dtype, codes, arrays)
    write: Function = make_store("float32", "float32", arrays, arrays + 1)
    decode, wide = _function(codec_of(SCALAR_OPS, dtype).decode), _wide[compute]

    @_function
    def load(address, scale, i):  # type: ignore[no-untyped-def]
        return wide(decode(load_code(address, i), scale))

    @_function
    def store(buffer, i, x):  # type: ignore[no-untyped-def]
        write(buffer, i, np.float32(x))

    load_scale = make_load("float32", "float32", scales, arrays)
    return {"load": load, "scale": load_scale, "store": store, "encode": _encoder(dtype, codes, scales, arrays)}


def _encoder(dtype: str, codes: int, scales: int, arrays: int) -> Function:
    """`encode(buffer, address, scales, block, count, number)`: codes and scale of the numbers in the buffer."""
    store_code: Function = make_store_bits(dtype, codes, arrays)
    store_scale: Function = make_store("float32", "float32", scales, arrays)
    read: Function = make_load("float32", "float32", arrays, arrays + 1)
    encode_one = _function(codec_of(SCALAR_OPS, dtype).encode)
    threshold = _function(thresholds(SCALAR_OPS)) if dtype == "uint8" else _nearest
    bits, from_bits = SCALAR_OPS.bits, SCALAR_OPS.from_bits
    magnitude, none, tiny, infinite = np.int32(0x7FFFFFFF), np.int32(0), np.float32(TINY), np.float32(np.inf)
    zero, one, nan = np.float32(0), np.float32(1), np.float32(np.nan)

    @_function
    def encode(buffer, address, scales, block, count, number):  # type: ignore[no-untyped-def]
        top = none
        for j in range(count):
            top = max(top, np.int32(bits(read(buffer, j)) & magnitude))
        scale = from_bits(top)
        scale = nan if not scale < infinite else zero if scale < tiny else scale
        inverse = one / scale if scale > zero else zero
        store_scale(scales, block, scale)
        for j in range(count):
            u = threshold(np.int32(j), np.float32(number))
            code = encode_one(read(buffer, j), inverse, u) if scale == scale else none
            store_code(address, block * BLOCK + j, code)

    return encode  # type: ignore[no-any-return]


def pair_functions(dtype: str, compute: str, first: int, second: int, arrays: int) -> dict[str, object]:
    """`load(address, errors, i)` and `store(address, errors, i, x)` of numbers with their rounding errors."""
    error, pair = dtype.split("+")[1], pair_of(SCALAR_OPS, dtype)
    split, join, wide = _function(pair.split), _function(pair.join), _wide[compute]
    load_high: Function = make_load_bits("int16", first, arrays)
    store_high: Function = make_store_bits("int16", first, arrays)
    load_error: Function = make_load_bits(error, second, arrays)
    store_error: Function = make_store_bits(error, second, arrays)

    @_function
    def load(address, errors, i):  # type: ignore[no-untyped-def]
        return wide(join(load_high(address, i), load_error(errors, i)))

    @_function
    def store(address, errors, i, x):  # type: ignore[no-untyped-def]
        high, low = split(np.float32(x))
        store_high(address, i, high)
        store_error(errors, i, low)

    return {"load": load, "store": store}


def stochastic_functions(dtype: str, compute: str, numbers: int, seed: int, arrays: int) -> dict[str, object]:
    """`load(address, seed, i)` and `store(address, seed, i, x, number)` of numbers that are rounded at random."""
    stochastic, wide = stochastic_of(SCALAR_OPS, dtype), _wide[compute]
    round_one, widen = _function(stochastic.round), _function(stochastic.widen)
    random = _function(random_bits(SCALAR_OPS, _function(mixer(SCALAR_OPS))))
    load_high: Function = make_load_bits("int16", numbers, arrays)
    store_high: Function = make_store_bits("int16", numbers, arrays)
    load_seed: Function = make_load_bits("int32", seed, arrays)

    @_function
    def load(address, seeds, i):  # type: ignore[no-untyped-def]
        return wide(widen(load_high(address, i)))

    @_function
    def store(address, seeds, i, x, number):  # type: ignore[no-untyped-def]
        bits = random(load_seed(seeds, 0), np.float32(number), np.int32(i))
        store_high(address, i, round_one(np.float32(x), bits))

    return {"load": load, "store": store}
