"""One kernel: rooms on the host path agree with the core bit for bit, and so do any numbers of threads."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import scirs2_adapters
from scirs2_adapters.core import HostOptimizer

from .cells import Cell, gap, history, option_rows, table
from .walk import values

CELLS = [c for c in table() if c.room != "core" and c.path == "host" and c.dtype in ("float32", "bfloat16")]
SHARED = [c for c in CELLS if gap(c) is None]


@functools.cache
def core(rule: str, dtype: str) -> list[dict[str, np.ndarray]]:
    """The core's own walks on the host path."""
    cell = Cell(rule, "core", "host", dtype)
    return [values(history(cell, hyper)) for hyper in option_rows(cell)]


@pytest.mark.parametrize(("cell", "room"), [pytest.param(c, c.room, id=str(c)) for c in SHARED])
def test_a_room_on_the_host_kernel_has_the_bits_of_the_core(cell: Cell, room: str) -> None:
    del room
    for hyper, expected in zip(option_rows(cell), core(cell.rule, cell.dtype), strict=True):
        ours = values(history(cell, hyper))
        assert [name for name in expected if not np.array_equal(ours[name], expected[name])] == []


@pytest.mark.parametrize("rule", scirs2_adapters.names())
def test_any_number_of_threads_gives_the_same_bits(rule: str) -> None:
    """Large enough that three threads find work, in pieces that no number of threads divides evenly."""
    walks = [threaded(rule, threads) for threads in (1, 2, 3)]
    for other in walks[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(walks[0], other, strict=True))


def threaded(rule: str, threads: int) -> list[np.ndarray]:
    """Parameters and memory after three steps with so many threads."""
    rng = np.random.default_rng(3)
    shapes = {"matrix": (257, 1001), "vector": (65_537,), "stack": (3, 7, 1009)}
    params = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    optimizer = HostOptimizer(scirs2_adapters.get(rule)(), params, kernel="host", threads=threads)
    for _ in range(3):
        optimizer.step({name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()})
    return [*params.values(), *(x for slots in optimizer.state.values() for x in slots.values())]
