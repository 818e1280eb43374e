"""Every cell of the table walks like the oracle: parameters and state, twelve steps, within its dtype's tolerance."""

from __future__ import annotations

import pytest

from scirs2_adapters.adapters import adapters

from .cells import GAPS, Cell, gap, history, measure, option_rows, table
from .drivers import drivers

CELLS = table()
FILLED = [cell for cell in CELLS if gap(cell) is None]
EMPTY = [cell for cell in CELLS if gap(cell) is not None]


def each(cells: list[Cell]) -> pytest.MarkDecorator:
    """One test for each cell; `adapter` is an argument, by which a run for some adapters leaves out the others."""
    return pytest.mark.parametrize(("cell", "adapter"), [pytest.param(c, c.adapter, id=str(c)) for c in cells])


@each(FILLED)
def test_a_cell_walks_like_the_oracle(cell: Cell, adapter: str) -> None:
    del adapter
    for options, distance in zip(option_rows(cell), measure(cell), strict=True):
        assert distance.within(cell.dtype), f"{cell}, {options}: {distance}"


@each(EMPTY)
def test_a_gap_is_still_one(cell: Cell, adapter: str) -> None:
    """Where the cell works after all, its gap has to go."""
    del adapter
    with pytest.raises((ValueError, TypeError)):
        history(cell, option_rows(cell)[0])


def test_every_adapter_has_a_driver() -> None:
    assert set(drivers()) == {"core", *adapters()}


def test_every_gap_has_a_reason_and_a_cell() -> None:
    assert all(len(g.reason.split()) > 3 for g in GAPS)
    assert [g for g in GAPS if not any(g.covers(cell) for cell in CELLS)] == []
