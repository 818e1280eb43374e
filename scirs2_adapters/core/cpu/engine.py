"""Steps parameters by address: a `Batch` is the parameters that one compiled program serves, `run` steps any number of
batches at once.

For an elementwise rule a step is one call of the driver, with one before it where tensors have numbers of their own.
For a rule with sums, `run` goes level by level through all batches: a pass, the sums over items and, for sums over the
model, over batches; then everything smaller than a tensor is computed by numpy, in float64 and for all tensors at once,
and handed to the next pass as coefficients.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..program.recorded import Program
from ..slots import Extent
from . import compile
from .between import Between
from .driver import COEFFICIENT_ROW, COLUMNS, ITEM_WORDS, MAX_WORKERS, OUT, TENSOR, Word
from .kernel import CompiledPass, Kernel, kernel, over_numbers, uses_rows
from .work_items import flat_items, row_items

#: Below this many numbers for each thread, starting the thread costs more than it brings.
SHARE = 1 << 17
#: How many assignments of coefficients to tensors a batch remembers; each costs 64 bytes an item.
REMEMBERED = 16
_NOTHING = np.empty(0)
#: Coefficients lie in memory of these types: an array of ctypes tells its address ten times as fast as one of numpy.
_C_TYPES = {"float32": ctypes.c_float, "float64": ctypes.c_double}


def default_threads() -> int:
    """The threads that the environment grants: OMP_NUM_THREADS or NUMBA_NUM_THREADS, else the processors of this
    process.
    """
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if (value := os.environ.get(name, "").split(",")[0]).isdigit() and int(value) > 0:
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Batch:
    """Parameters with one program and one tuple of storage dtypes; immutable, and safe to use from several threads at
    once.

    `arrays` names what the columns of an address table are: the parameter, its gradient, and each slot that is an
    array.
    """

    def __init__(
        self, program: Program, shapes: Sequence[tuple[int, ...]], dtypes: Mapping[str, str], emit: str = "p",
        made: Kernel | None = None,
    ) -> None:  # fmt: skip
        self.program = program
        self.shapes = [tuple(s) for s in shapes]
        self.kernel = made or kernel(program, dtypes, emit)
        self.arrays = ("p", "g", *(s.name for s in program.slots if s.extent is not Extent.MODEL))
        self.by_rows = uses_rows(program)
        self.at_once = program.levels == 0 and all(s.extent in (Extent.FULL, Extent.TENSOR) for s in program.slots)
        self.items = (row_items if self.by_rows else flat_items)(self.shapes)
        self.numbers = sum(math.prod(s) for s in self.shapes)
        self.scalars = [program.nodes[i].name for i in self.kernel.passes[0].parts.coefficients]
        self.each = np.arange(len(self.shapes))
        self._columns = [self._pick(p) for p in self.kernel.passes]
        self._placed: dict[tuple[int, bytes], tuple[np.ndarray, int, int]] = {}

    @functools.cached_property
    def first(self) -> Batch | None:
        """What runs before the only pass of a rule with slots of one number; to it, each tensor is such a number."""
        if (made := over_numbers(self.kernel)) is None:
            return None
        return Batch(self.program, [()] * len(self.shapes), made.dtypes, made=made)

    def workers(self, threads: int) -> int:
        """How many of the threads granted are worth starting."""
        return max(1, min(threads, len(self.items), self.numbers // SHARE, MAX_WORKERS))

    def _pick(self, this: CompiledPass) -> list[int] | None:
        """Which columns of the caller's table a pass needs; None for the table as it is."""
        names = tuple(a.name for a in this.parts.arrays)
        return None if names == self.arrays else [self.arrays.index(n) if n in self.arrays else -1 for n in names]

    def table(self, level: int, addresses: np.ndarray, computed: Mapping[str, np.ndarray]) -> np.ndarray:
        """The addresses for one pass; `computed` holds those of values made in this step."""
        columns = self._columns[level]
        if columns is None:
            return addresses
        table = addresses.take(columns, axis=1)
        for k, a in enumerate(self.kernel.passes[level].parts.arrays):
            if a.computed:
                table[:, k] = computed[a.name]
        return table

    def placed(self, level: int, rows: np.ndarray | None) -> tuple[np.ndarray, int, int]:
        """The items of a pass when each tensor takes its row of `rows`, their address, and how many sums there are.

        Remembered, because the same rows come at each step.
        """
        key = (level, b"" if rows is None else rows.tobytes())
        if (found := self._placed.get(key)) is None:
            items, parts = self.items.copy(), self.kernel.passes[level].parts
            items[:, COEFFICIENT_ROW] = 0 if rows is None else rows[items[:, TENSOR]]
            sizes = len(parts.sums) + len(parts.columns) * items[:, COLUMNS]
            items[:, OUT] = np.cumsum(sizes) - sizes
            if len(self._placed) >= REMEMBERED:
                self._placed.clear()
            found = self._placed[key] = (items, address(items), int(sizes.sum()))
        return found


def plan(
    entries: Sequence[tuple[Program, tuple[int, ...], Mapping[str, str]]], make: Callable[..., Any] = Batch
) -> list[tuple[Any, list[int]]]:
    """Sorts (program, shape, dtypes) of parameters into batches; with each, the positions of its parameters."""
    sorted_: dict[Any, list[int]] = {}
    for i, (program, _, dtypes) in enumerate(entries):
        sorted_.setdefault((program, tuple(dtypes.items())), []).append(i)
    return [
        (make(program, [entries[i][1] for i in members], dict(dtypes)), members)
        for (program, dtypes), members in sorted_.items()
    ]


def call(
    batch: Batch, level: int, table: np.ndarray, coefficients: int, stride: int, rows: np.ndarray | None, threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Runs one pass; returns its sums and the items whose OUT says where each item's are. `coefficients` is the address
    of rows that are `stride` bytes apart.
    """
    items, place, sums = batch.placed(level, rows)
    out = np.empty(sums) if sums else _NOTHING
    workers = batch.workers(threads)
    drive, worker = compile.driver()
    desc = (ctypes.c_int64 * (Word.THREADS + workers))(
        batch.kernel.passes[level].address, address(table), table.strides[0], place, len(items),
        coefficients, stride, address(out) if sums else 0, 0, workers, worker,
    )  # fmt: skip
    drive(ctypes.addressof(desc))
    return out, items


def address(x: np.ndarray) -> int:
    """Where the array's memory begins."""
    return x.__array_interface__["data"][0]  # type: ignore[no-any-return]


def run(
    batches: Sequence[Batch],
    tables: Sequence[np.ndarray],
    scalars: Sequence[Sequence[Mapping[str, Any]]],
    rows: Sequence[np.ndarray | None],
    model: Mapping[str, float] | None = None,
    threads: int | None = None,
) -> dict[str, float]:
    """One step of all batches, in place; returns the new values of the slots that are one number for the model.

    For each batch: `tables` the addresses, (tensors, arrays) of int64; `scalars` one or more rows of coefficients;
    `rows` which of them each tensor takes, or None if there is one. The caller keeps the memory alive and answers for
    its layout.
    """
    threads = threads or default_threads()
    work = [(b, t, s, r) for b, t, s, r in zip(batches, tables, scalars, rows, strict=True) if len(b.items)]
    between: list[Between] = []
    for batch, table, given, row in work:
        if batch.at_once:
            _at_once(batch, table, given, row, threads)
        else:
            between.append(Between(batch, table, given, row, model or {}))
    for level in range(max((b.batch.program.levels for b in between), default=-1) + 1):
        _level([b for b in between if b.batch.program.levels >= level], level, threads)
    return between[0].finish(between[1:]) if between else {}


def _at_once(batch: Batch, table: np.ndarray, scalars: Sequence[Mapping[str, Any]], row: Any, threads: int) -> None:
    maker = batch.first or batch
    numbers = [s[n] for s in scalars for n in maker.scalars]
    memory = (_C_TYPES[maker.kernel.compute] * len(numbers))(*numbers)
    place, stride = ctypes.addressof(memory), ctypes.sizeof(memory) // len(scalars)
    if batch.first:
        made, _ = call(batch.first, 0, batch.first.table(0, table, {}), place, stride, row, 1)
        with np.errstate(over="ignore"):
            own = made.reshape(len(batch.shapes), -1).astype(batch.kernel.compute)
        place, stride, row = address(own), own.strides[0], batch.each
    call(batch, 0, batch.table(0, table, {}), place, stride, row, threads)


def _level(between: Sequence[Between], level: int, threads: int) -> None:
    for b in between:
        table, coefficients = b.before(level)
        place, stride = address(coefficients), coefficients.strides[0]
        out, items = call(b.batch, level, table, place, stride, b.batch.each, threads)
        b.after(level, out, items)
    totals = [b.totals(level) for b in between]
    for b in between:
        b.share(level, [_total(itertools.chain(*column)) for column in zip(*totals, strict=True)])


def _total(shares: Iterable[float]) -> float:
    """Their sum, rounded once: the order of the parameters must not matter."""
    shares = list(shares)
    try:
        return math.fsum(shares)
    except (OverflowError, ValueError):  # of infinities
        return sum(shares)


__all__ = ["ITEM_WORDS", "Batch", "address", "call", "default_threads", "plan", "run"]
