"""One compiled loop over (tensor, chunk) work items, in as many threads as it is given.

Threads are the operating system's own, started for one call and joined at its end (15 microseconds each; small work
runs in the caller). There is no pool: nothing spins between steps, a forked child has nothing to lose, concurrent
callers do not meet, and no second OpenMP runtime enters the process. Items are taken by an atomic counter and write to
places of their own, so that the result is the same bits for any number of threads.

`desc` is a row of 64-bit words, named by `Word`; the words from THREADS on hold the handles of the threads started.
"""

from __future__ import annotations

import enum
from typing import Any


class Word(enum.IntEnum):
    """The words of a work description."""

    KERNEL = 0
    TABLE = 1
    TABLE_STRIDE = 2
    ITEMS = 3
    COUNT = 4
    COEFFICIENTS = 5
    COEFFICIENT_STRIDE = 6
    OUT = 7
    TICKET = 8
    WORKERS = 9
    WORKER = 10
    THREADS = 11


#: The words of a work item. `ROW` is the first row of the tensor, `BATCH` which of its matrices, `OUT` where its sums
#: go.
TENSOR, OFFSET, ROWS, COLUMNS, ROW, BATCH, COEFFICIENT_ROW, OUT = range(8)
ITEM_WORDS = 8
MAX_WORKERS = 64


def make_worker() -> tuple[Any, Any]:
    """The function each thread runs, and its signature: takes items until there are none."""
    from numba import types

    from .intrinsics import atomic_add, call_kernel, load_i64

    def worker(desc):  # type: ignore[no-untyped-def]
        kernel, table, items, coefficients, out = (
            load_i64(desc, 0),
            load_i64(desc, 1),
            load_i64(desc, 3),
            load_i64(desc, 5),
            load_i64(desc, 7),
        )
        table_stride, count, coefficient_stride = load_i64(desc, 2), load_i64(desc, 4), load_i64(desc, 6)
        while True:
            ticket = atomic_add(desc + 64)
            if ticket >= count:
                return 0
            item = items + ticket * 64
            arrays = table + load_i64(item, 0) * table_stride
            call_kernel(
                kernel, arrays, item, coefficients + load_i64(item, 6) * coefficient_stride, out + load_i64(item, 7) * 8
            )

    return worker, types.intp(types.intp)


def make_drive() -> tuple[Any, Any]:
    """The function that starts the threads, works along, and joins them. A thread that cannot be started is done
    without.
    """
    from numba import types

    from .intrinsics import call_address, load_i64

    integer = types.intp
    create = types.ExternalFunction("pthread_create", types.int32(integer, integer, integer, integer))
    join = types.ExternalFunction("pthread_join", types.int32(integer, integer))

    def drive(desc):  # type: ignore[no-untyped-def]
        started = 0
        for _ in range(load_i64(desc, 9) - 1):
            if create(desc + (11 + started) * 8, 0, load_i64(desc, 10), desc) == 0:
                started += 1
        call_address(load_i64(desc, 10), desc)
        for i in range(started):
            join(load_i64(desc, 11 + i), 0)
        return started

    return drive, types.intp(types.intp)
