"""One compiled loop over (tensor, chunk) work items, in as many threads as the caller says.

Threads are those of the operating system, started for one call and joined at its end (15 microseconds each; small work
runs in the caller). There is no pool: nothing spins between steps, a forked child has nothing to lose, concurrent
callers do not meet, and no second OpenMP runtime enters the process. Where a framework has threads that spin, the work
is done on them, in a parallel region of its runtime. Items are taken by an atomic counter, and no two
write to the same place, so that the result is the same bits for any number of threads.

`work` is the address of a description, whose words are those of `layout.Work`.
"""

from __future__ import annotations

from numba import types

from .intrinsics import (
    atomic_add,
    call_address,
    call_kernel,
    call_region,
    load_i64,
    load_mode,
    set_mode,
    store_i64,
)
from .layout import ITEM_BYTES, WORD_BYTES, Item, Work

_create = types.ExternalFunction("pthread_create", types.int32(*[types.intp] * 4))
_join = types.ExternalFunction("pthread_join", types.int32(types.intp, types.intp))


def worker(work):  # type: ignore[no-untyped-def]
    """What each thread runs: it takes the items of its share, one long stretch of memory, and then the items that other
    threads have not taken yet. It computes in the mode of the caller: threads of a runtime may be in another one.
    """
    mode = load_mode()
    set_mode(load_i64(work, Work.MODE))
    kernel, table, items = load_i64(work, Work.KERNEL), load_i64(work, Work.TABLE), load_i64(work, Work.ITEMS)
    coefficients, out = load_i64(work, Work.COEFFICIENTS), load_i64(work, Work.OUT)
    table_stride, coefficient_stride = load_i64(work, Work.TABLE_STRIDE), load_i64(work, Work.COEFFICIENT_STRIDE)
    count, workers = load_i64(work, Work.COUNT), load_i64(work, Work.WORKERS)
    first = atomic_add(work, Work.NEXT_WORKER)
    for turn in range(workers):
        share = (first + turn) % workers
        begin, end = share * count // workers, (share + 1) * count // workers
        while True:
            place = begin + atomic_add(work, Work.THREADS + workers + share)
            if place >= end:
                break
            item = items + place * ITEM_BYTES
            call_kernel(
                kernel,
                table + load_i64(item, Item.TENSOR) * table_stride,
                item,
                coefficients + load_i64(item, Item.COEFFICIENT_ROW) * coefficient_stride,
                out + load_i64(item, Item.OUT) * WORD_BYTES,
            )
    set_mode(mode)
    return 0


def drive(work):  # type: ignore[no-untyped-def]
    """Starts the threads, works along, and joins them. A thread that cannot be started is done without. In a parallel
    region the runtime says how many threads there are: each takes items until none are left.
    """
    store_i64(work, Work.MODE, load_mode())
    started, region = 0, load_i64(work, Work.REGION)
    if region != 0 and load_i64(work, Work.WORKERS) > 1:
        call_region(region, load_i64(work, Work.WORKER), work)
        return started
    for _ in range(load_i64(work, Work.WORKERS) - 1):
        handle = work + (Work.THREADS + started) * WORD_BYTES
        if _create(handle, 0, load_i64(work, Work.WORKER), work) == 0:
            started += 1
    call_address(load_i64(work, Work.WORKER), work)
    for i in range(started):
        _join(load_i64(work, Work.THREADS + i), 0)
    return started
