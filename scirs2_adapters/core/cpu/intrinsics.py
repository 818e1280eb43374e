"""The few instructions that generated kernels need and numba does not have: typed memory, select, calls by address, an
atomic counter.

Loads and stores carry alias scopes, one for each array of a kernel: LLVM then knows that they do not overlap and needs
no run-time check. Beyond about four arrays it would give up these checks, and with them vectorization.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.base import BaseContext
from numba.core.typing import Signature
from numba.extending import intrinsic

#: Writes the instructions for arguments; returns their value, or None where there is none.
Writer = Callable[..., ir.Value | None]

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_F32 = ir.FloatType()
_CARRIERS = {"float64": ir.DoubleType(), "float32": _F32, "float16": ir.HalfType(), "bfloat16": _I16}
_NUMBERS = {"float64": types.float64, "float32": types.float32}
_WORD = types.intp
_BYTES = ir.IntType(8).as_pointer()
#: Processors by Python's names for them.
_MACHINE, _X86, _ARM = platform.machine(), ("x86_64", "AMD64"), ("aarch64", "arm64")


def make_intrinsic(signature: Signature) -> Callable[[Writer], Callable[..., int]]:
    """Makes a function with these types, for generated code, of one that writes its instructions."""

    def emit_by(write: Writer) -> Callable[..., int]:
        def emit(context: BaseContext, builder: ir.IRBuilder, signature: object, args: Sequence[ir.Value]) -> ir.Value:
            value = write(builder, *args)
            return context.get_dummy_value() if value is None else value

        @functools.wraps(write)  # numba takes names and number of the arguments from it
        def typed(typing: object, *arguments: types.Type) -> tuple[Signature, object]:
            return signature, emit

        return intrinsic(typed)  # type: ignore[no-any-return]

    return emit_by


def _pointer(builder: ir.IRBuilder, base: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
    return builder.gep(builder.inttoptr(base, kind.as_pointer()), [index])


def _annotate(instruction: ir.Instruction, module: ir.Module, array: int, arrays: int) -> None:
    """Gives a load or store the `alias.scope` of its array and `noalias` of all others."""
    domain = module.add_metadata(["scirs2"])
    scopes = [module.add_metadata([f"array{i}", domain]) for i in range(arrays)]
    scope = scopes.pop(array)
    instruction.set_metadata("alias.scope", module.add_metadata([scope]))
    if scopes:
        instruction.set_metadata("noalias", module.add_metadata(scopes))


def make_load(dtype: str, compute: str, array: int, arrays: int) -> Callable[[int, int], float]:
    """`load(address, index)`: a number of this storage, in the arithmetic's dtype."""
    carrier, wide = _CARRIERS[dtype], _CARRIERS[compute]

    @make_intrinsic(_NUMBERS[compute](_WORD, _WORD))
    def load(builder: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
        value = builder.load(_pointer(builder, address, index, carrier))
        _annotate(value, builder.module, array, arrays)
        if dtype == "bfloat16":
            bits = builder.shl(builder.zext(value, _I32), ir.Constant(_I32, 16))
            value = builder.bitcast(bits, _F32)
            return builder.fpext(value, wide) if compute == "float64" else value
        return value if carrier == wide else (builder.fptrunc if dtype == "float64" else builder.fpext)(value, wide)

    return load


def make_store(dtype: str, compute: str, array: int, arrays: int) -> Callable[[int, int, float], object]:
    """`store(address, index, value)`: rounds once, to nearest even; NaN stays NaN."""
    carrier, wide = _CARRIERS[dtype], _CARRIERS[compute]

    @make_intrinsic(types.void(_WORD, _WORD, _NUMBERS[compute]))
    def store(builder: ir.IRBuilder, address: ir.Value, index: ir.Value, value: ir.Value) -> None:
        if dtype == "bfloat16":
            value = _to_bfloat16(builder, builder.fptrunc(value, _F32) if compute == "float64" else value)
        elif carrier != wide:
            value = (builder.fpext if dtype == "float64" else builder.fptrunc)(value, carrier)
        stored = builder.store(value, _pointer(builder, address, index, carrier))
        _annotate(stored, builder.module, array, arrays)

    return store


def make_load_bits(dtype: str, array: int, arrays: int) -> Callable[[int, int], int]:
    """`load(address, index)`: an integer of this storage, as an int32."""
    carrier = ir.IntType(np.dtype(dtype).itemsize * 8)

    @make_intrinsic(types.int32(_WORD, _WORD))
    def load(builder: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
        value = builder.load(_pointer(builder, address, index, carrier))
        _annotate(value, builder.module, array, arrays)
        return (builder.zext if dtype[0] == "u" else builder.sext)(value, _I32)

    return load


def make_store_bits(dtype: str, array: int, arrays: int) -> Callable[[int, int, int], object]:
    """`store(address, index, value)`: the lower bits of an integer."""
    carrier = ir.IntType(np.dtype(dtype).itemsize * 8)

    @make_intrinsic(types.void(_WORD, _WORD, types.int32))
    def store(builder: ir.IRBuilder, address: ir.Value, index: ir.Value, value: ir.Value) -> None:
        stored = builder.store(builder.trunc(value, carrier), _pointer(builder, address, index, carrier))
        _annotate(stored, builder.module, array, arrays)

    return store


def _to_bfloat16(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    sixteen, half, one, quiet = (ir.Constant(_I32, value) for value in (16, 0x7FFF, 1, 0x40))
    bits = builder.bitcast(x, _I32)
    high = builder.lshr(bits, sixteen)
    even = builder.add(half, builder.and_(high, one))
    rounded = builder.lshr(builder.add(bits, even), sixteen)
    nan = builder.fcmp_unordered("uno", x, x)
    return builder.trunc(builder.select(nan, builder.or_(high, quiet), rounded), _I16)


def make_select(compute: str) -> Callable[[bool, float, float], float]:
    """`select(condition, a, b)`: `a if condition else b` without a branch."""
    number = _NUMBERS[compute]

    @make_intrinsic(number(types.boolean, number, number))
    def select(builder: ir.IRBuilder, condition: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        return builder.select(condition, a, b)

    return select


@make_intrinsic(_WORD(_WORD, _WORD))
def load_i64(builder: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
    """The 64-bit integer at `address[index]`."""
    return builder.load(_pointer(builder, address, index, _I64))


@make_intrinsic(types.void(_WORD, _WORD, _WORD))
def store_i64(builder: ir.IRBuilder, address: ir.Value, index: ir.Value, value: ir.Value) -> None:
    """`address[index] = value`, a 64-bit integer."""
    builder.store(value, _pointer(builder, address, index, _I64))


@make_intrinsic(_WORD())
def anchor(builder: ir.IRBuilder) -> ir.Value:
    """The address of a word that belongs to the compiled function: its only memory between calls."""
    place = ir.GlobalVariable(builder.module, _I64, "scirs2.anchor")
    place.initializer, place.linkage = ir.Constant(_I64, 0), "internal"
    return builder.ptrtoint(place, _I64)


@make_intrinsic(_WORD(_WORD, _WORD))
def atomic_add(builder: ir.IRBuilder, address: ir.Value, index: ir.Value) -> ir.Value:
    """Atomically adds 1 to the 64-bit integer at `address[index]`; returns what it was."""
    return builder.atomic_rmw("add", _pointer(builder, address, index, _I64), ir.Constant(_I64, 1), "monotonic")


@make_intrinsic(_WORD(_WORD, _WORD, _WORD))
def atomic_change(builder: ir.IRBuilder, address: ir.Value, index: ir.Value, by: ir.Value) -> ir.Value:
    """Atomically adds to the integer at `address[index]`, in order with all other memory; returns what it was."""
    return builder.atomic_rmw("add", _pointer(builder, address, index, _I64), by, "seq_cst")


def _declared(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Type) -> ir.Function:
    return builder.module.declare_intrinsic(name, (), ir.FunctionType(result, arguments))


@make_intrinsic(_WORD())
def load_mode(builder: ir.IRBuilder) -> ir.Value:
    """The word in which this thread's processor has how it rounds and whether numbers below the normal ones are 0; 0
    on a processor whose word is not known here.
    """
    if _MACHINE in _ARM:
        return builder.call(_declared(builder, "llvm.aarch64.get.fpcr", _I64), [])
    if _MACHINE not in _X86:
        return ir.Constant(_I64, 0)
    place = builder.alloca(_I32)
    builder.call(_declared(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), _BYTES), [builder.bitcast(place, _BYTES)])
    return builder.zext(builder.load(place), _I64)


@make_intrinsic(types.void(_WORD))
def set_mode(builder: ir.IRBuilder, mode: ir.Value) -> None:
    """Gives this thread's processor the word of `load_mode`."""
    if _MACHINE in _ARM:
        builder.call(_declared(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), _I64), [mode])
    elif _MACHINE in _X86:
        builder.store(builder.trunc(mode, _I32), place := builder.alloca(_I32))
        name, pointer = "llvm.x86.sse.ldmxcsr", builder.bitcast(place, _BYTES)
        builder.call(_declared(builder, name, ir.VoidType(), _BYTES), [pointer])


def _call(builder: ir.IRBuilder, result: ir.Type, function: ir.Value, arguments: Sequence[ir.Value]) -> ir.Value:
    kind = ir.FunctionType(result, [_I64] * len(arguments))
    return builder.call(builder.inttoptr(function, kind.as_pointer()), arguments)


@make_intrinsic(types.void(*[_WORD] * 5))
def call_kernel(
    builder: ir.IRBuilder, kernel: ir.Value, arrays: ir.Value, item: ir.Value, coefficients: ir.Value, out: ir.Value
) -> None:
    """Calls the kernel at an address."""
    _call(builder, ir.VoidType(), kernel, (arrays, item, coefficients, out))


@make_intrinsic(_WORD(_WORD, _WORD))
def call_address(builder: ir.IRBuilder, function: ir.Value, argument: ir.Value) -> ir.Value:
    """Calls the function of one integer at an address."""
    return _call(builder, _I64, function, (argument,))


@make_intrinsic(types.void(*[_WORD] * 3))
def call_region(builder: ir.IRBuilder, region: ir.Value, function: ir.Value, argument: ir.Value) -> None:
    """Calls `GOMP_parallel` at an address: a function of one integer on as many threads as the runtime has."""
    default = ir.Constant(_I64, 0)
    _call(builder, ir.VoidType(), region, (function, argument, default, default))
