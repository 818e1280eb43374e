"""The handler of XLA's foreign calls, compiled by numba: reads a call's frame, gathers addresses, runs the driver,
adds up its sums.

It runs on a thread of XLA's without python's lock: no object, no exception, no numba runtime. Words are those of
`ffi.Plan`, of a work description (`driver.Word`) and of XLA's C ABI: a frame has its extension at 1, the API at 2, the
stage at 4, operands at 9, results at 14, attributes at 20; a buffer has its data at 3, a number at 1.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types

from .intrinsics import anchor, call_address, make_load, make_store, set_word, word

_malloc = types.ExternalFunction("malloc", types.intp(types.intp))
_free = types.ExternalFunction("free", types.void(types.intp))
_copy = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.intp))
_get, _put = make_load("float64", "float64", 0, 1), make_store("float64", "float64", 0, 1)
_put_narrow = make_store("float32", "float64", 0, 1)

#: Written into the handler: linked functions would bring wrappers that need python.
_part = njit(inline="always", error_model="numpy")


@_part
def _find(plan, name):  # type: ignore[no-untyped-def]
    while plan != 0 and word(plan, 0) != name:
        plan = word(plan, 1)
    return plan


@_part
def _fail(api, message):  # type: ignore[no-untyped-def]
    """An error of XLA's, made by its own function: 9 is FAILED_PRECONDITION."""
    words = _malloc(32)
    set_word(words, 0, 32)
    set_word(words, 1, 0)
    set_word(words, 2, message)
    set_word(words, 3, 9)
    error = call_address(word(api, 6), words)
    _free(words)
    return error


@_part
def _gather(plan, frame, table):  # type: ignore[no-untyped-def]
    """The address of each array: of its result where it is stored, which first gets the operand's numbers if it has
    none of them.
    """
    for i in range(word(plan, 5) * word(plan, 6)):
        source = word(plan, 13) + i * 24
        operand, result, address = word(source, 0), word(source, 1), 0
        if operand >= 0:
            address = word(word(word(frame, 9), operand), 3)
        if result >= 0:
            target = word(word(word(frame, 14), result), 3)
            if operand >= 0 and target != address and word(source, 2) > 0:
                _copy(target, address, word(source, 2))
            address = target
        set_word(table, i, address)


@_part
def _reduce(plan, out, result):  # type: ignore[no-untyped-def]
    """Adds the items' sums, tensor by tensor, in the items' order."""
    count, sums, items = word(plan, 8), word(plan, 11), word(plan, 7)
    for k in range(sums):
        item = 0
        for tensor in range(word(plan, 5)):
            total = 0.0
            while item < count and word(items, item * 8) == tensor:
                total += _get(out, item * sums + k)
                item += 1
            if word(plan, 12) != 0:
                _put(result, tensor * sums + k, total)
            else:
                _put_narrow(result, tensor * sums + k, total)


@_part
def _execute(plan, frame):  # type: ignore[no-untyped-def]
    sums, workers = word(plan, 11), word(plan, 10)
    out = _malloc(8 * (word(plan, 8) * sums + 1))
    table = _malloc(8 * (word(plan, 5) * word(plan, 6) + 1))
    description = _malloc(8 * (11 + workers))
    _gather(plan, frame, table)
    set_word(description, 0, word(plan, 2))
    set_word(description, 1, table)
    set_word(description, 2, 8 * word(plan, 6))
    set_word(description, 3, word(plan, 7))
    set_word(description, 4, word(plan, 8))
    set_word(description, 5, word(word(word(frame, 9), 0), 3))
    set_word(description, 6, word(plan, 9))
    set_word(description, 7, out)
    set_word(description, 8, 0)
    set_word(description, 9, workers)
    set_word(description, 10, word(plan, 4))
    call_address(word(plan, 3), description)
    if sums > 0:
        _reduce(plan, out, word(word(word(frame, 14), 0), 3))
    _free(description)
    _free(table)
    _free(out)


def handler(frame):  # type: ignore[no-untyped-def]
    """The foreign function itself; -1 in place of a frame's size greets it with the address of `ffi`'s words."""
    home = anchor()
    if word(frame, 0) == -1:
        set_word(home, 0, word(frame, 1))
        return 0
    home = word(home, 0)
    extension = word(frame, 1)
    if extension != 0 and word(extension, 1) & 0xFFFFFFFF == 1:  # what are you? version 0.1, no traits
        set_word(home, 2, word(frame, 0))
        set_word(word(extension, 3), 3, 1 << 32)
        set_word(word(extension, 3), 4, 0)
        return 0
    if word(frame, 4) & 0xFFFFFFFF != 3:
        return 0
    plan = _find(word(home, 0), word(word(word(word(frame, 20), 0), 1), 0))
    if plan == 0:
        return _fail(word(frame, 2), word(home, 1))
    _execute(plan, frame)
    return 0


def make_handler() -> tuple[Any, Any]:
    """The function and its signature, as `compile.native` takes them."""
    return handler, types.intp(types.intp)
