"""The handler of XLA's foreign calls, compiled by numba: reads a call's frame, gathers addresses, runs the driver,
adds up its sums.

It runs on a thread of XLA's without python's lock: no object, no exception, no numba runtime.
"""

from __future__ import annotations

from numba import njit, types

from .intrinsics import anchor, call_address, load_i64, make_load, make_store, store_i64
from .layout import GREETING, ITEM_BYTES, SOURCE_BYTES, WORD_BYTES, Anchor, Frame, Item, Plan, Source, Work

#: XLA's buffers and scalars, the functions of its API, its stages and error codes.
BUFFER_DATA, SCALAR_VALUE, API_ERROR_CREATE, STAGE_EXECUTE, FAILED_PRECONDITION = 3, 1, 6, 3, 9

_malloc = types.ExternalFunction("malloc", types.intp(types.intp))
_free = types.ExternalFunction("free", types.void(types.intp))
_copy = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.intp))
_get, _put = make_load("float64", "float64", 0, 1), make_store("float64", "float64", 0, 1)
_put_narrow = make_store("float32", "float64", 0, 1)

#: Written into the handler: linked functions would bring wrappers that need python.
_part = njit(inline="always", error_model="numpy")


@_part
def _find(plan, name):  # type: ignore[no-untyped-def]
    while plan != 0 and load_i64(plan, Plan.NAME) != name:
        plan = load_i64(plan, Plan.NEXT)
    return plan


@_part
def _fail(api, message):  # type: ignore[no-untyped-def]
    """An error of XLA's, made by its own function, whose arguments are a size, an extension, a text and a code."""
    words = _malloc(4 * WORD_BYTES)
    store_i64(words, 0, 4 * WORD_BYTES)
    store_i64(words, 1, 0)
    store_i64(words, 2, message)
    store_i64(words, 3, FAILED_PRECONDITION)
    error = call_address(load_i64(api, API_ERROR_CREATE), words)
    _free(words)
    return error


@_part
def _memory(frame, buffers, index):  # type: ignore[no-untyped-def]
    """The address of the numbers of an operand or a result."""
    return load_i64(load_i64(load_i64(frame, buffers), index), BUFFER_DATA)


@_part
def _gather(plan, frame, table):  # type: ignore[no-untyped-def]
    """The address of each array: of its result where it is stored, which first gets the operand's numbers if it has
    none of them.
    """
    for i in range(load_i64(plan, Plan.TENSORS) * load_i64(plan, Plan.ARRAYS)):
        source = load_i64(plan, Plan.SOURCES) + i * SOURCE_BYTES
        operand, result, address = load_i64(source, Source.OPERAND), load_i64(source, Source.RESULT), 0
        if operand >= 0:
            address = _memory(frame, Frame.OPERANDS, operand)
        if result >= 0:
            target = _memory(frame, Frame.RESULTS, result)
            if operand >= 0 and target != address and load_i64(source, Source.BYTES) > 0:
                _copy(target, address, load_i64(source, Source.BYTES))
            address = target
        store_i64(table, i, address)


@_part
def _reduce(plan, work, result):  # type: ignore[no-untyped-def]
    """Adds the items' sums, tensor by tensor, in the items' order."""
    count, items, out = load_i64(work, Work.COUNT), load_i64(work, Work.ITEMS), load_i64(work, Work.OUT)
    sums = load_i64(plan, Plan.SUMS)
    for k in range(sums):
        i = 0
        for tensor in range(load_i64(plan, Plan.TENSORS)):
            total = 0.0
            while i < count and load_i64(items + i * ITEM_BYTES, Item.TENSOR) == tensor:
                total += _get(out, i * sums + k)
                i += 1
            if load_i64(plan, Plan.WIDE) != 0:
                _put(result, tensor * sums + k, total)
            else:
                _put_narrow(result, tensor * sums + k, total)


@_part
def _execute(plan, frame):  # type: ignore[no-untyped-def]
    sums, known, size = load_i64(plan, Plan.SUMS), load_i64(plan, Plan.WORK), load_i64(plan, Plan.WORK_BYTES)
    addresses = load_i64(plan, Plan.TENSORS) * load_i64(plan, Plan.ARRAYS)
    work = _malloc(size + WORD_BYTES * (addresses + load_i64(known, Work.COUNT) * sums))
    table = work + size
    out = table + WORD_BYTES * addresses
    _gather(plan, frame, table)
    _copy(work, known, size)
    store_i64(work, Work.TABLE, table)
    store_i64(work, Work.COEFFICIENTS, _memory(frame, Frame.OPERANDS, 0))
    store_i64(work, Work.OUT, out)
    call_address(load_i64(plan, Plan.DRIVE), work)
    if sums > 0:
        _reduce(plan, work, _memory(frame, Frame.RESULTS, 0))
    _free(work)


@_part
def _tell_version(frame, extension, home):  # type: ignore[no-untyped-def]
    """Answers XLA's question what the handler is: version 0.1, without traits."""
    store_i64(home, Anchor.FRAME_BYTES, load_i64(frame, Frame.BYTES))
    store_i64(load_i64(extension, 3), 3, 1 << 32)
    store_i64(load_i64(extension, 3), 4, 0)


def handler(frame):  # type: ignore[no-untyped-def]
    """The foreign function itself."""
    home = anchor()
    if load_i64(frame, Frame.BYTES) == GREETING:
        store_i64(home, 0, load_i64(frame, 1))
        return 0
    home = load_i64(home, 0)
    extension = load_i64(frame, Frame.EXTENSION)
    if extension != 0 and load_i64(extension, 1) & 0xFFFFFFFF == 1:
        _tell_version(frame, extension, home)
        return 0
    if load_i64(frame, Frame.STAGE) & 0xFFFFFFFF != STAGE_EXECUTE:
        return 0
    name = load_i64(load_i64(load_i64(load_i64(frame, Frame.ATTRIBUTES), 0), SCALAR_VALUE), 0)
    plan = _find(load_i64(home, Anchor.PLAN), name)
    if plan == 0:
        return _fail(load_i64(frame, Frame.API), load_i64(home, Anchor.MESSAGE))
    _execute(plan, frame)
    return 0
