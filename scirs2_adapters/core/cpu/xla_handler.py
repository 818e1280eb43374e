"""The handler of XLA's foreign calls, compiled by numba: reads a call's frame, gathers addresses, runs the driver,
adds up its sums.

It runs on a thread of XLA's without python's lock: no object, no exception, no numba runtime. Words are those of
`ffi.Plan`, of a work description (`driver.Word`) and of XLA's C ABI: a frame has its extension at 1, the API at 2, the
stage at 4, operands at 9, results at 14, attributes at 20; a buffer has its data at 3, a number at 1.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types

from .intrinsics import anchor, call_address, load_i64, make_load, make_store, store_i64

_malloc = types.ExternalFunction("malloc", types.intp(types.intp))
_free = types.ExternalFunction("free", types.void(types.intp))
_copy = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.intp))
_get, _put = make_load("float64", "float64", 0, 1), make_store("float64", "float64", 0, 1)
_put_narrow = make_store("float32", "float64", 0, 1)

#: Written into the handler: linked functions would bring wrappers that need python.
_part = njit(inline="always", error_model="numpy")


@_part
def _find(plan, name):  # type: ignore[no-untyped-def]
    while plan != 0 and load_i64(plan, 0) != name:
        plan = load_i64(plan, 1)
    return plan


@_part
def _fail(api, message):  # type: ignore[no-untyped-def]
    """An error of XLA's, made by its own function: 9 is FAILED_PRECONDITION."""
    words = _malloc(32)
    store_i64(words, 0, 32)
    store_i64(words, 1, 0)
    store_i64(words, 2, message)
    store_i64(words, 3, 9)
    error = call_address(load_i64(api, 6), words)
    _free(words)
    return error


@_part
def _gather(plan, frame, table):  # type: ignore[no-untyped-def]
    """The address of each array: of its result where it is stored, which first gets the operand's numbers if it has
    none of them.
    """
    for i in range(load_i64(plan, 5) * load_i64(plan, 6)):
        source = load_i64(plan, 13) + i * 24
        operand, result, address = load_i64(source, 0), load_i64(source, 1), 0
        if operand >= 0:
            address = load_i64(load_i64(load_i64(frame, 9), operand), 3)
        if result >= 0:
            target = load_i64(load_i64(load_i64(frame, 14), result), 3)
            if operand >= 0 and target != address and load_i64(source, 2) > 0:
                _copy(target, address, load_i64(source, 2))
            address = target
        store_i64(table, i, address)


@_part
def _reduce(plan, out, result):  # type: ignore[no-untyped-def]
    """Adds the items' sums, tensor by tensor, in the items' order."""
    count, sums, items = load_i64(plan, 8), load_i64(plan, 11), load_i64(plan, 7)
    for k in range(sums):
        item = 0
        for tensor in range(load_i64(plan, 5)):
            total = 0.0
            while item < count and load_i64(items, item * 8) == tensor:
                total += _get(out, item * sums + k)
                item += 1
            if load_i64(plan, 12) != 0:
                _put(result, tensor * sums + k, total)
            else:
                _put_narrow(result, tensor * sums + k, total)


@_part
def _execute(plan, frame):  # type: ignore[no-untyped-def]
    sums, workers = load_i64(plan, 11), load_i64(plan, 10)
    out = _malloc(8 * (load_i64(plan, 8) * sums + 1))
    table = _malloc(8 * (load_i64(plan, 5) * load_i64(plan, 6) + 1))
    description = _malloc(8 * (11 + workers))
    _gather(plan, frame, table)
    store_i64(description, 0, load_i64(plan, 2))
    store_i64(description, 1, table)
    store_i64(description, 2, 8 * load_i64(plan, 6))
    store_i64(description, 3, load_i64(plan, 7))
    store_i64(description, 4, load_i64(plan, 8))
    store_i64(description, 5, load_i64(load_i64(load_i64(frame, 9), 0), 3))
    store_i64(description, 6, load_i64(plan, 9))
    store_i64(description, 7, out)
    store_i64(description, 8, 0)
    store_i64(description, 9, workers)
    store_i64(description, 10, load_i64(plan, 4))
    call_address(load_i64(plan, 3), description)
    if sums > 0:
        _reduce(plan, out, load_i64(load_i64(load_i64(frame, 14), 0), 3))
    _free(description)
    _free(table)
    _free(out)


def handler(frame):  # type: ignore[no-untyped-def]
    """The foreign function itself; -1 in place of a frame's size greets it with the address of `ffi`'s words."""
    home = anchor()
    if load_i64(frame, 0) == -1:
        store_i64(home, 0, load_i64(frame, 1))
        return 0
    home = load_i64(home, 0)
    extension = load_i64(frame, 1)
    if extension != 0 and load_i64(extension, 1) & 0xFFFFFFFF == 1:  # what are you? version 0.1, no traits
        store_i64(home, 2, load_i64(frame, 0))
        store_i64(load_i64(extension, 3), 3, 1 << 32)
        store_i64(load_i64(extension, 3), 4, 0)
        return 0
    if load_i64(frame, 4) & 0xFFFFFFFF != 3:
        return 0
    plan = _find(load_i64(home, 0), load_i64(load_i64(load_i64(load_i64(frame, 20), 0), 1), 0))
    if plan == 0:
        return _fail(load_i64(frame, 2), load_i64(home, 1))
    _execute(plan, frame)
    return 0


def make_handler() -> tuple[Any, Any]:
    """The function and its signature, as `compile.native` takes them."""
    return handler, types.intp(types.intp)
