"""After 1,000 steps every adapter and path is as near to the slow twin as storage allows."""

from __future__ import annotations

import pytest

from .cells import Cell, gap, table
from .drift import BOUND, drift, path

CELLS = [cell for cell in table() if cell.dtype in BOUND and gap(cell) is None]


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "adapter"), [pytest.param(c, c.adapter, id=str(c)) for c in CELLS])
def test_drift_stays_near_the_floor(cell: Cell, adapter: str) -> None:
    del adapter
    bound = path(cell.rule, cell.dtype).bound(cell.dtype)
    off, step = drift(cell, bound)
    assert off <= bound, f"differs from tests/reference/{cell.rule}.py at step {step}, in the parameters, by {off:.2g}"
