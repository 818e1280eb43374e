"""The host kernels behind XLA's typed foreign calls: one compiled handler for every rule, without a C++ compiler.

A call names its plan by content and not by address, so that a compiled program that outlives the process finds nothing
and fails with a message. Plans are words in memory, chained, never freed: there are as many as there are different
steps in the process's programs. Operands are the coefficients, then the arrays of the pass, column by column; results
are the arrays it stores, each in the operand's buffer where the framework allows it, or the sums of each tensor.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import threading
from collections.abc import Sequence

import numpy as np

from ..formats import blocks, companion
from ..rounding import ERROR_BITS, ROUNDING_ERROR, ROUNDING_SEED
from . import compile
from .batch import Batch, Launch
from .engine import default_threads
from .kernel import pass_arrays
from .layout import GREETING, WORD_BYTES, Anchor, Frame, Plan, Source, Work
from .storage import STORAGES

#: A plan's words, and what they have the addresses of.
PlanMemory = tuple[np.ndarray, Launch, np.ndarray]
#: The handler reads a call's frame this far; a shorter frame has another layout.
FRAME_BYTES = (max(Frame) + 1) * WORD_BYTES
_MESSAGE = ctypes.create_string_buffer(
    b"scirs2: this compiled program is of another process; compile it again in this one"
)
_lock = threading.Lock()
_plans: dict[int, PlanMemory] = {}
_anchor = np.zeros(len(Anchor), dtype=np.int64)
_anchor[Anchor.MESSAGE] = ctypes.addressof(_MESSAGE)


@functools.cache
def handler() -> int:
    """The address of the handler, which knows from now on where the plans are."""
    greeting = np.array([GREETING, _anchor.ctypes.data], dtype=np.int64)
    compile.function_of("xla_handler", "handler")(greeting.ctypes.data)
    return compile.address_of("xla_handler", "handler")


def frame_bytes() -> int:
    """The size of the frame that came with the framework's handshake; 0 before it."""
    return int(_anchor[Anchor.FRAME_BYTES])


def publish(batch: Batch, level: int, rows: Sequence[int]) -> int:
    """The number by which calls name this pass; `rows` says which row of coefficients each tensor takes."""
    workers = min(default_threads(), batch.most_workers)
    parts = batch.kernel.passes[level].parts
    content = (batch.program.text, parts, sorted(batch.kernel.dtypes.items()), batch.shapes, tuple(rows), workers)
    name = int.from_bytes(hashlib.sha256(repr(content).encode()).digest()[:7])
    with _lock:
        if name not in _plans:
            launch = batch.new_launch(level, np.asarray(rows, dtype=np.int64), workers)
            _plans[name] = _plan(batch, level, launch, name)
            _anchor[Anchor.PLAN] = _plans[name][0].ctypes.data  # complete before the handler can see it
    return name


def _plan(batch: Batch, level: int, launch: Launch, name: int) -> PlanMemory:
    parts, sources = batch.kernel.passes[level].parts, _sources(batch, level)
    arrays = len(pass_arrays(parts, batch.kernel.dtypes))
    launch.work[Work.TABLE_STRIDE] = WORD_BYTES * arrays
    words = {
        Plan.NAME: name,
        Plan.NEXT: _anchor[Anchor.PLAN],
        Plan.DRIVE: compile.address_of("driver", "drive"),
        Plan.WORK: ctypes.addressof(launch.work),
        Plan.WORK_BYTES: ctypes.sizeof(launch.work),
        Plan.TENSORS: len(batch.shapes),
        Plan.ARRAYS: arrays,
        Plan.SUMS: len(parts.sums),
        Plan.WIDE: batch.kernel.compute == "float64",
        Plan.SOURCES: sources.ctypes.data,
    }
    return np.array([words.get(word, 0) for word in Plan], dtype=np.int64), launch, sources


def _sources(batch: Batch, level: int) -> np.ndarray:
    names, tensors = pass_arrays(batch.kernel.passes[level].parts, batch.kernel.dtypes), len(batch.shapes)
    sources = np.full((tensors, len(names), len(Source)), -1, dtype=np.int64)
    for place, name in enumerate(operands(batch, level)):
        sources[:, names.index(name), Source.OPERAND] = 1 + place * tensors + batch.every_tensor
    for place, name in enumerate(results(batch, level)):
        sources[:, names.index(name), Source.RESULT] = place * tensors + batch.every_tensor
    for k, name in enumerate(names):
        sources[:, k, Source.BYTES] = _bytes(batch, name)
    return sources


def operands(batch: Batch, level: int) -> list[str]:
    """The arrays that a pass reads, by name, in the order of a call's operands."""
    parts = batch.kernel.passes[level].parts
    return _with_companions(batch, [a.name for a in parts.arrays if a.node >= 0])


def results(batch: Batch, level: int) -> list[str]:
    """The arrays that a pass stores, by name, in the order of a call's results; a seed stays as it is."""
    parts = batch.kernel.passes[level].parts
    stored = _with_companions(batch, [parts.arrays[k].name for k in parts.stores])
    return [n for n in stored if n != ROUNDING_SEED]


def _with_companions(batch: Batch, names: list[str]) -> list[str]:
    return names + [other for n in names if (other := companion(n, batch.kernel.dtypes[n]))]


def _bytes(batch: Batch, name: str) -> list[int]:
    """The size of an array of each tensor."""
    sizes = [math.prod(s) for s in batch.shapes]
    if name in batch.kernel.dtypes:
        return [n * STORAGES[batch.kernel.dtypes[name]].size for n in sizes]
    if name == ROUNDING_ERROR:
        return [n * ERROR_BITS[batch.kernel.dtypes["p"].partition("+")[2]] // 8 for n in sizes]
    return [blocks(n) * STORAGES["float32"].size for n in sizes]
