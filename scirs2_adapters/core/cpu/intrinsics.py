"""The few instructions that generated kernels need beyond numba's own: typed memory, select, calls by address, an
atomic counter.

Loads and stores carry alias scopes, one for each array of a kernel: LLVM then knows that they do not overlap and needs
no run-time check, of which it gives up beyond about four arrays, and with them vectorization.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.base import BaseContext
from numba.core.typing import Signature
from numba.extending import intrinsic

Values = Sequence[ir.Value]
#: The types of an intrinsic, and the function that writes its instructions.
Intrinsic = tuple[Signature, Callable[[BaseContext, ir.IRBuilder, object, Values], ir.Value]]

_CARRIERS = {
    "float64": ir.DoubleType(),
    "float32": ir.FloatType(),
    "float16": ir.HalfType(),
    "bfloat16": ir.IntType(16),
}
_NUMBERS = {"float64": types.float64, "float32": types.float32}
_I32 = ir.IntType(32)


def _pointer(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.gep(builder.inttoptr(base, kind.as_pointer()), [index])


def _scopes(builder: ir.IRBuilder, array: int, arrays: int) -> dict[str, ir.MDValue]:
    """`alias.scope` of this array and `noalias` of all others."""
    module = builder.module
    domain = module.add_metadata(["scirs2"])
    scopes = [module.add_metadata([f"array{i}", domain]) for i in range(arrays)]
    others = [s for i, s in enumerate(scopes) if i != array]
    metadata = {"alias.scope": module.add_metadata([scopes[array]])}
    return metadata | ({"noalias": module.add_metadata(others)} if others else {})


def _annotate(instruction: ir.Instruction, scopes: dict[str, ir.MDValue]) -> None:
    for key, value in scopes.items():
        instruction.set_metadata(key, value)


def make_load(dtype: str, compute: str, array: int, arrays: int) -> Callable[[int, int], float]:
    """`load(address, index)`: a number of this storage, in the arithmetic's dtype."""
    carrier, wide = _CARRIERS[dtype], _CARRIERS[compute]

    @intrinsic
    def load(typing: object, address: types.Type, index: types.Type) -> Intrinsic:
        def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
            value = builder.load(_pointer(builder, args[0], args[1], carrier))
            _annotate(value, _scopes(builder, array, arrays))
            if dtype == "bfloat16":
                bits = builder.shl(builder.zext(value, _I32), ir.Constant(_I32, 16))
                value = builder.bitcast(bits, ir.FloatType())
                return builder.fpext(value, wide) if compute == "float64" else value
            return value if carrier == wide else (builder.fptrunc if dtype == "float64" else builder.fpext)(value, wide)

        return _NUMBERS[compute](types.intp, types.intp), emit

    return load  # type: ignore[no-any-return]


def make_store(dtype: str, compute: str, array: int, arrays: int) -> Callable[[int, int, float], None]:
    """`store(address, index, value)`: rounds once, to nearest even; NaN stays NaN."""
    carrier, wide = _CARRIERS[dtype], _CARRIERS[compute]

    @intrinsic
    def store(typing: object, address: types.Type, index: types.Type, value: types.Type) -> Intrinsic:
        def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
            base, index, x = args
            if dtype == "bfloat16":
                x = _to_bfloat16(builder, builder.fptrunc(x, ir.FloatType()) if compute == "float64" else x)
            elif carrier != wide:
                x = (builder.fpext if dtype == "float64" else builder.fptrunc)(x, carrier)
            _annotate(builder.store(x, _pointer(builder, base, index, carrier)), _scopes(builder, array, arrays))
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, _NUMBERS[compute]), emit

    return store  # type: ignore[no-any-return]


def make_load_bits(dtype: str, array: int, arrays: int) -> Callable[[int, int], int]:
    """`load(address, index)`: an integer of this storage, as an int32."""
    carrier = ir.IntType(np.dtype(dtype).itemsize * 8)

    @intrinsic
    def load(typing: object, address: types.Type, index: types.Type) -> Intrinsic:
        def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
            value = builder.load(_pointer(builder, args[0], args[1], carrier))
            _annotate(value, _scopes(builder, array, arrays))
            return (builder.zext if dtype[0] == "u" else builder.sext)(value, _I32)

        return types.int32(types.intp, types.intp), emit

    return load  # type: ignore[no-any-return]


def make_store_bits(dtype: str, array: int, arrays: int) -> Callable[[int, int, int], None]:
    """`store(address, index, value)`: the lower bits of an integer."""
    carrier = ir.IntType(np.dtype(dtype).itemsize * 8)

    @intrinsic
    def store(typing: object, address: types.Type, index: types.Type, value: types.Type) -> Intrinsic:
        def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
            x = builder.trunc(args[2], carrier)
            _annotate(builder.store(x, _pointer(builder, args[0], args[1], carrier)), _scopes(builder, array, arrays))
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, value), emit

    return store  # type: ignore[no-any-return]


def _to_bfloat16(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    def constant(value: int) -> ir.Constant:
        return ir.Constant(_I32, value)

    bits = builder.bitcast(x, _I32)
    high = builder.lshr(bits, constant(16))
    even = builder.add(constant(0x7FFF), builder.and_(high, constant(1)))
    rounded = builder.lshr(builder.add(bits, even), constant(16))
    nan = builder.fcmp_unordered("uno", x, x)
    return builder.trunc(builder.select(nan, builder.or_(high, constant(0x40)), rounded), ir.IntType(16))


@intrinsic
def select(typing: object, condition: types.Type, a: types.Type, b: types.Type) -> Intrinsic:
    """`a if condition else b` without a branch."""

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
        condition, a, b = args
        return builder.select(condition, a, b)

    return a(types.boolean, a, a), emit


@intrinsic
def load_i64(typing: object, address: types.Type, index: types.Type) -> Intrinsic:
    """The 64-bit integer at `address[index]`."""

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
        return builder.load(_pointer(builder, args[0], args[1], ir.IntType(64)))

    return types.intp(types.intp, types.intp), emit


@intrinsic
def store_i64(typing: object, address: types.Type, index: types.Type, value: types.Type) -> Intrinsic:
    """`address[index] = value`, a 64-bit integer."""

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
        base, index, value = args
        builder.store(value, _pointer(builder, base, index, ir.IntType(64)))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), emit


@intrinsic
def anchor(typing: object) -> Intrinsic:
    """The address of a word that belongs to the compiled function: its only memory between calls."""

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
        integer = ir.IntType(64)
        place = ir.GlobalVariable(builder.module, integer, "scirs2.anchor")
        place.initializer, place.linkage = ir.Constant(integer, 0), "internal"
        return builder.ptrtoint(place, integer)

    return types.intp(), emit


@intrinsic
def atomic_add(typing: object, address: types.Type, index: types.Type) -> Intrinsic:
    """Atomically adds 1 to the 64-bit integer at `address[index]`; returns what it was."""

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
        integer = ir.IntType(64)
        pointer = _pointer(builder, args[0], args[1], integer)
        return builder.atomic_rmw("add", pointer, ir.Constant(integer, 1), "monotonic")

    return types.intp(types.intp, types.intp), emit


@intrinsic
def call_kernel(
    typing: object,
    function: types.Type,
    arrays: types.Type,
    item: types.Type,
    coefficients: types.Type,
    out: types.Type,
) -> Intrinsic:
    """Calls the kernel at an address."""

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 4)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), emit


@intrinsic
def call_address(typing: object, function: types.Type, argument: types.Type) -> Intrinsic:
    """Calls the function of one integer at an address."""

    def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Values) -> ir.Value:
        integer = ir.IntType(64)
        kind = ir.FunctionType(integer, [integer])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return types.intp(types.intp, types.intp), emit
