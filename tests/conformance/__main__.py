"""`python -m tests.conformance`: the table of rules, adapters, paths and dtypes, with the distance measured in each
cell.

Ends with 1 if a cell is beyond its tolerance. `--write FILE` keeps the table, `--drift` measures 1,000 steps instead.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable
from pathlib import Path

import scirs2_adapters

from . import drift as long
from .cells import GAPS, PATHS, TOLERANCES, Cell, gap, measure, table
from .drivers import drivers
from .problem import DTYPES, STEPS

TRAJECTORY = f"""The largest error of any parameter or slot over {STEPS} steps, relative to its largest value, against
plain numpy in float64 with parameters and memory rounded to their dtype after each step. Allowed: {{allowed}}."""
DRIFT = f"""The largest distance from the float64 transcription of the paper over {long.STEPS:,} steps, relative to the
length of the path. Allowed: {{allowed}}, or {long.TIMES} times what storage alone costs, which is the last column."""

Result = tuple[str, bool]


def short(cell: Cell) -> Result:
    """The cell's entry, and whether it is within its tolerance."""
    found = measure(cell)
    return f"{max(d.error for d in found):.1e}", all(d.within(cell.dtype) for d in found)


def far(cell: Cell) -> Result:
    """The same for a long walk."""
    found, _ = long.drift(cell)
    return f"{found:.1e}", found <= long.path(cell.rule, cell.dtype).bound(cell.dtype)


def entry(cell: Cell, measured: Callable[[Cell], Result], failed: list[Cell]) -> str:
    """What stands in the table; a gap is the number of its reason, a failure is marked."""
    if (reason := gap(cell)) is not None:
        return f"[^{GAPS.index(reason) + 1}]"
    text, fine = measured(cell)
    if not fine:
        failed.append(cell)
    return text if fine else f"**{text}**"


def lines(dtype: str, cells: list[Cell], measured: Callable[[Cell], Result], failed: list[Cell]) -> list[str]:
    """The table of one dtype, its rows made as they are measured."""
    columns = list(dict.fromkeys((c.adapter, c.path) for c in cells))
    floor = measured is far
    head = ["", *(f"{adapter} {path}" for adapter, path in columns), *(["floor"] if floor else [])]
    rows = [head, ["---"] * len(head)]
    for rule in dict.fromkeys(c.rule for c in cells):
        row = [entry(c, measured, failed) for c in cells if c.rule == rule]
        rows.append([rule, *row, *([f"{long.path(rule, dtype).floor:.1e}"] if floor else [])])
        print(" ".join(f"{x:>14}" for x in rows[-1]), file=sys.stderr, flush=True)
    allowed = (long.BOUND if floor else TOLERANCES)[dtype]
    said = (DRIFT if floor else TRAJECTORY).format(allowed=f"{allowed:.1e}")
    return [f"## {dtype}", "", said, "", *("| " + " | ".join(row) + " |" for row in rows), ""]


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    for name, known in choices().items():
        parser.add_argument(f"--{name}", default=",".join(known), help="by comma (default: all)")
    parser.add_argument("--drift", action="store_true", help="measure long walks")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown")
    return parser.parse_args(given)


def choices() -> dict[str, tuple[str, ...]]:
    """What can be chosen."""
    return {"rules": tuple(scirs2_adapters.names()), "adapters": drivers(), "paths": PATHS, "dtypes": DTYPES}


def main(given: list[str] | None = None) -> int:
    """Measure, print, and say whether all is well."""
    chosen, failed, text = arguments(given), [], ["# Conformance", ""]
    wanted = {name.removesuffix("s"): getattr(chosen, name).split(",") for name in choices()}
    for dtype in long.BOUND if chosen.drift else DTYPES:
        cells = [c for c in table() if c.dtype == dtype and all(getattr(c, k) in v for k, v in wanted.items())]
        if cells:
            text += lines(dtype, cells, far if chosen.drift else short, failed)
    text += [f"[^{i}]: {g.reason}." for i, g in enumerate(GAPS, start=1)]
    print("\n".join(text))
    if chosen.write:
        made = f"Made by `python -m tests.conformance`, scirs2 {scirs2_adapters.__version__}, {datetime.date.today()}."
        chosen.write.write_text("\n".join([*text[:2], made, "", *text[2:]]) + "\n")
    for cell in failed:
        print(f"beyond its tolerance: {cell}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
