"""What stands in each cell of the table, measured in one process or in several."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

from . import drift as long
from .cells import GAPS, Cell, Gap, gap, measure

#: What a cell's entry is, and whether it is within its tolerance.
Result = tuple[str, bool]


def letter(gap: Gap) -> str:
    """What stands in the place of a cell that cannot be."""
    return chr(ord("a") + GAPS.index(gap))


def short(cell: Cell) -> Result:
    """The cell's entry, and whether it is within its tolerance."""
    distances = measure(cell)
    return f"{max(d.error for d in distances):.1e}", all(d.within(cell.dtype) for d in distances)


def far(cell: Cell) -> Result:
    """The same for a long walk."""
    drift, _ = long.drift(cell)
    return f"{drift:.1e}", drift <= long.path(cell.rule, cell.dtype).bound(cell.dtype)


def entry(measured: Callable[[Cell], Result], cell: Cell) -> Result:
    """What stands in the table: a gap is the letter of its reason, a failure is marked."""
    if (reason := gap(cell)) is not None:
        return letter(reason), True
    text, fine = measured(cell)
    return (text if fine else f"**{text}**"), fine


def row(measured: Callable[[Cell], Result], cells: list[Cell]) -> list[Result]:
    """The entries of one optimizer and dtype."""
    return [entry(measured, cell) for cell in cells]


def rows(cells: list[Cell], measured: Callable[[Cell], Result], processes: int) -> Iterator[tuple[Cell, Result]]:
    """Each cell with its entry. A row is printed when it and those before it are there."""
    by_row = [list(same) for _, same in itertools.groupby(cells, key=lambda c: (c.dtype, c.rule))]
    work = functools.partial(row, measured)
    spawn = multiprocessing.get_context("spawn")  # frameworks do not bear a fork
    with ProcessPoolExecutor(processes, spawn) as pool:  # which starts none before it has work
        for same, entries in zip(by_row, (pool.map if processes > 1 else map)(work, by_row), strict=True):
            head = (same[0].rule, same[0].dtype)
            print(" ".join(f"{x:>14}" for x in (*head, *(text for text, _ in entries))), file=sys.stderr, flush=True)
            yield from zip(same, entries, strict=True)
