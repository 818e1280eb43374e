"""The host kernels behind XLA's typed foreign calls: one compiled handler (`handler.py`) for every rule, without a C++
compiler.

A call names its plan by content and not by address, so that a compiled program that outlives the process finds nothing
and fails with a message. Plans are words in memory, chained, never freed: there are as many as there are different
steps in the process's programs. Operands are the coefficients, then the arrays of the pass, column by column; results
are the arrays it stores, each in the operand's own buffer where the framework allows it, or the sums of each tensor.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import hashlib
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import compile
from .driver import COEFFICIENT_ROW, OUT, TENSOR
from .engine import Batch, default_threads
from .storage import STORAGES

#: The handler reads a call's frame this far; a shorter frame has another layout.
FRAME_BYTES = 21 * 8
_MESSAGE = ctypes.create_string_buffer(
    b"scirs2: this compiled program is of another process; compile it again in this one"
)
_lock = threading.Lock()
_plans: dict[int, tuple[np.ndarray, ...]] = {}
_anchor = np.array(
    [0, ctypes.addressof(_MESSAGE), 0], dtype=np.int64
)  # the last plan, the error's message, the frame's size


class Plan(enum.IntEnum):
    """The words of a plan. SOURCES has three words for each array: its operand and its result (-1: none), its bytes."""

    NAME = 0
    NEXT = 1
    KERNEL = 2
    DRIVE = 3
    WORKER = 4
    TENSORS = 5
    ARRAYS = 6
    ITEMS = 7
    COUNT = 8
    COEFFICIENT_STRIDE = 9
    WORKERS = 10
    SUMS = 11
    WIDE = 12
    SOURCES = 13


@functools.cache
def handler() -> int:
    """The address of the handler, which knows from now on where the plans are."""
    here = Path(__file__)
    text = here.with_name("xla_handler.py").read_text() + here.with_name("intrinsics.py").read_text()

    def build() -> tuple[str, bytes]:
        from .xla_handler import make_handler

        return compile.native(*make_handler(), False, "handler")

    address = compile.load("handler", text, build)
    greeting = np.array([-1, _anchor.ctypes.data], dtype=np.int64)
    ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)(greeting.ctypes.data)
    return address


def frame_bytes() -> int:
    """The size of the frame that came with the framework's handshake; 0 before it."""
    return int(_anchor[2])


def publish(batch: Batch, level: int, rows: Sequence[int], threads: int | None = None) -> int:
    """The number by which calls name this pass; `rows` says which row of coefficients each tensor takes."""
    workers = batch.workers(threads or default_threads())
    parts = batch.kernel.passes[level].parts
    said = (batch.program.text, parts, sorted(batch.kernel.dtypes.items()), batch.shapes, tuple(rows), workers)
    name = int.from_bytes(hashlib.sha256(repr(said).encode()).digest()[:7])
    with _lock:
        if name not in _plans:
            _plans[name] = _plan(batch, level, np.asarray(rows, dtype=np.int64), name, workers)
            _anchor[0] = _plans[name][0].ctypes.data  # whole before it can be found
    return name


def _plan(batch: Batch, level: int, rows: np.ndarray, name: int, workers: int) -> tuple[np.ndarray, ...]:
    this, sums = batch.kernel.passes[level], len(batch.kernel.passes[level].parts.sums)
    items = batch.items.copy()
    items[:, COEFFICIENT_ROW] = rows[items[:, TENSOR]]
    items[:, OUT] = np.arange(len(items)) * sums
    sources = _sources(batch, level)
    numbers = np.dtype(batch.kernel.compute).itemsize
    words = np.zeros(len(Plan), dtype=np.int64)
    drive, worker = compile.driver()
    words[:] = [
        name, _anchor[0], this.address, _address(drive), worker, len(batch.shapes),
        len(this.parts.arrays), items.ctypes.data, len(items), numbers * max(1, len(this.parts.coefficients)), workers,
        sums, numbers == 8, sources.ctypes.data,
    ]  # fmt: skip
    return words, items, sources


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _sources(batch: Batch, level: int) -> np.ndarray:
    parts, tensors = batch.kernel.passes[level].parts, len(batch.shapes)
    sources = np.full((tensors, len(parts.arrays), 3), -1, dtype=np.int64)
    read = [k for k, a in enumerate(parts.arrays) if a.node >= 0]
    every = np.arange(tensors)
    sizes = np.array([math.prod(s) for s in batch.shapes], dtype=np.int64)
    for place, k in enumerate(read):
        sources[:, k, 0] = 1 + place * tensors + every
    for place, k in enumerate(parts.stores):
        sources[:, k, 1] = place * tensors + every
    for k, a in enumerate(parts.arrays):
        sources[:, k, 2] = sizes * STORAGES[batch.kernel.dtypes[a.name]].size
    return sources
