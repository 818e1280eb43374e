"""Steps parameters by address, any number of batches at once.

For an elementwise rule a step is one call of the driver, after another one if slots are one number for each tensor.
For a rule with sums, a step goes level by level through all batches (`step/levels.py`): a pass, the sums over items and
for sums over the model over batches; then numpy computes everything that is smaller than a tensor, in float64, and the
next pass takes it as coefficients.
"""

from __future__ import annotations

import ctypes
import math
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ..formats import DITHER
from ..ops import Scalars
from ..program.recorded import Program
from ..step.levels import run_levels
from ..step.plan import grouped
from ..step.protocols import KernelEntry, Model
from .batch import Batch, address
from .batch_step import KernelStep

OtherBatch = TypeVar("OtherBatch")
NewBatch = Callable[[Program, Sequence[tuple[int, ...]], Mapping[str, str]], OtherBatch]
#: Coefficients lie in memory of these types: an array of ctypes tells its address ten times as fast as one of numpy.
_C_TYPES: dict[str, type[ctypes.c_float | ctypes.c_double]] = {"float32": ctypes.c_float, "float64": ctypes.c_double}

_MOST_WORKERS = operator.attrgetter("most_workers")


def default_threads() -> int:
    """The threads that the environment grants: OMP_NUM_THREADS or NUMBA_NUM_THREADS, else the processors of this
    process.
    """
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if (value := os.environ.get(name, "").split(",")[0]).isdigit() and int(value) > 0:
            return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan(entries: Sequence[KernelEntry]) -> list[tuple[Batch, list[int]]]:
    """Sorts parameters into batches; with each batch, the positions of its parameters."""
    return plan_batches(entries, Batch)


def plan_batches(entries: Sequence[KernelEntry], new_batch: NewBatch[OtherBatch]) -> list[tuple[OtherBatch, list[int]]]:
    """The same with another engine's batches."""
    groups = grouped(range(len(entries)), lambda i: (entries[i][0], tuple(entries[i][2].items())))
    return [
        (new_batch(program, [entries[i][1] for i in positions], dict(dtypes)), positions)
        for (program, dtypes), positions in groups.items()
    ]


def run(
    batches: Sequence[Batch],
    tables: Sequence[np.ndarray],
    scalars: Sequence[Sequence[Scalars]],
    rows: Sequence[np.ndarray | None],
    model: Model,
    threads: int | None = None,
) -> dict[str, float]:
    """One step of all batches, in place; returns the new values of the slots that are one number for the model.

    For each batch: `tables` the addresses, (tensors, arrays) of int64; `scalars` one or more rows of coefficients;
    `rows` which of them each tensor takes, or None if there is one. The caller keeps the memory alive and answers for
    its layout.
    """
    if threads is None:
        threads = default_threads() if max(map(_MOST_WORKERS, batches), default=1) > 1 else 1
    by_levels = []
    for arguments in zip(batches, tables, scalars, rows, strict=True):
        batch = arguments[0]
        if batch.at_once and len(batch.items):
            _run_at_once(*arguments, threads)
        elif len(batch.items):
            by_levels.append(arguments)
    if not by_levels:
        return {}
    with np.errstate(all="ignore"):
        steps = [KernelStep(*arguments, model, threads) for arguments in by_levels]
        run_levels(steps, _total)
        for step in steps:
            step.store()
        return {n: float(x) for n, x in steps[0].values.model_numbers().items()}


def _run_at_once(
    batch: Batch, table: np.ndarray, scalars: Sequence[Scalars], row: np.ndarray | None, threads: int
) -> None:
    first = batch.first
    maker = first or batch
    numbers = [s[n] for s in scalars for n in maker.scalars]
    memory = (_C_TYPES[maker.kernel.compute] * len(numbers))(*numbers)
    place = ctypes.addressof(memory)
    if first:
        sums, _ = first.run_pass(0, first.table(0, table, {}), place, row, 1)
        with np.errstate(over="ignore"):
            coefficients = sums.reshape(len(batch.shapes), -1).astype(batch.kernel.compute)
        if batch.kernel.passes[0].dithered:
            dithers = np.array([s[DITHER] for s in scalars], dtype=coefficients.dtype)
            by_tensor = dithers[np.zeros(len(batch.shapes), np.int64) if row is None else row]
            coefficients = np.column_stack([coefficients, by_tensor])
        place, row = address(coefficients), batch.every_tensor
    batch.run_pass(0, batch.table(0, table, {}), place, row, threads)


def _total(shares: Sequence[np.ndarray]) -> float:
    """Their sum, rounded once: the order of the parameters must not matter."""
    numbers: list[float] = np.concatenate([np.ravel(x) for x in shares]).tolist()
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):  # of infinities
        return sum(numbers)
