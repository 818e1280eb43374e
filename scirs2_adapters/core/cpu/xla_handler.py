"""The handler of XLA's foreign calls, compiled by numba: reads a call's frame, gathers addresses, runs the driver,
adds up its sums.

It runs on a thread of XLA's without python's lock: no object, no exception, no numba runtime.
"""

from __future__ import annotations

from .foreign_calls import copy, find, free, malloc, new_work, part, run
from .intrinsics import anchor, call_address, load_i64, store_i64
from .layout import GREETING, SOURCE_BYTES, WORD_BYTES, Anchor, Frame, Plan, Source, Work

#: XLA's buffers and scalars, the functions of its API, its stages and error codes.
BUFFER_DATA, SCALAR_VALUE, API_ERROR_CREATE, STAGE_EXECUTE, FAILED_PRECONDITION = 3, 1, 6, 3, 9


@part
def _fail(api, message):  # type: ignore[no-untyped-def]
    """An error of XLA's, made by XLA's function, whose arguments are a size, an extension, a text and a code."""
    words = malloc(4 * WORD_BYTES)
    store_i64(words, 0, 4 * WORD_BYTES)
    store_i64(words, 1, 0)
    store_i64(words, 2, message)
    store_i64(words, 3, FAILED_PRECONDITION)
    error = call_address(load_i64(api, API_ERROR_CREATE), words)
    free(words)
    return error


@part
def _memory(frame, buffers, index):  # type: ignore[no-untyped-def]
    """The address of the numbers of an operand or a result."""
    return load_i64(load_i64(load_i64(frame, buffers), index), BUFFER_DATA)


@part
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
                copy(target, address, load_i64(source, Source.BYTES))
            address = target
        store_i64(table, i, address)


@part
def _execute(plan, frame):  # type: ignore[no-untyped-def]
    work, result = new_work(plan), 0
    _gather(plan, frame, load_i64(work, Work.TABLE))
    if load_i64(plan, Plan.SUMS) > 0:
        result = _memory(frame, Frame.RESULTS, 0)
    run(plan, work, _memory(frame, Frame.OPERANDS, 0), result)
    free(work)


@part
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
    plan = find(load_i64(home, Anchor.PLAN), name)
    if plan == 0:
        return _fail(load_i64(frame, Frame.API), load_i64(home, Anchor.MESSAGE))
    _execute(plan, frame)
    return 0
