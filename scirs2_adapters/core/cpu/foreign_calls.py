"""What the handlers of foreign calls share, written into each of them: finding the plan of a call, and running its pass
when the addresses are known.

All of it runs on a framework's threads without python's lock: no object, no exception, no numba runtime.
"""

from __future__ import annotations

from numba import njit, types

from .intrinsics import call_address, load_i64, make_load, make_store, store_i64
from .layout import ITEM_BYTES, WORD_BYTES, Item, Plan, Work

malloc = types.ExternalFunction("malloc", types.intp(types.intp))
free = types.ExternalFunction("free", types.void(types.intp))
copy = types.ExternalFunction("memcpy", types.intp(types.intp, types.intp, types.intp))
_get, _put = make_load("float64", "float64", 0, 1), make_store("float64", "float64", 0, 1)
_put_narrow = make_store("float32", "float64", 0, 1)

#: Written into a handler: linked functions would bring wrappers that need python.
part = njit(inline="always", error_model="numpy")


@part
def find(plan, name):  # type: ignore[no-untyped-def]
    """The plan of this name in a list of plans, or 0."""
    while plan != 0 and load_i64(plan, Plan.NAME) != name:
        plan = load_i64(plan, Plan.NEXT)
    return plan


@part
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


@part
def new_work(plan):  # type: ignore[no-untyped-def]
    """Memory for one call: what the driver is called with, then the table of addresses, then the items' sums."""
    sums, known, size = load_i64(plan, Plan.SUMS), load_i64(plan, Plan.WORK), load_i64(plan, Plan.WORK_BYTES)
    addresses = load_i64(plan, Plan.TENSORS) * load_i64(plan, Plan.ARRAYS)
    work = malloc(size + WORD_BYTES * (addresses + load_i64(known, Work.COUNT) * sums))
    copy(work, known, size)
    store_i64(work, Work.TABLE, work + size)
    store_i64(work, Work.OUT, work + size + WORD_BYTES * addresses)
    return work


@part
def run(plan, work, coefficients, result):  # type: ignore[no-untyped-def]
    """Runs the pass, whose table of addresses is filled; its sums go to `result`."""
    store_i64(work, Work.COEFFICIENTS, coefficients)
    call_address(load_i64(plan, Plan.DRIVE), work)
    if load_i64(plan, Plan.SUMS) > 0:
        _reduce(plan, work, result)
