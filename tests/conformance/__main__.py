"""`python -m tests.conformance`: the table of rules, adapters, paths and dtypes, with the distance measured in each
cell.

Ends with 1 if a cell is beyond its tolerance. `--write FILE` keeps the table, `--drift` measures 1,000 steps instead.
All of it takes a quarter of an hour of a processor; `--processes 2` halves the time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import scirs2_adapters
from scirs2_adapters.core.registry import with_value

from . import drift as long
from . import page
from .cells import PATHS, table
from .drivers import drivers
from .entries import far, rows, short
from .problem import DTYPES


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    for name, known in choices().items():
        parser.add_argument(f"--{name}", default=",".join(known), help="by comma (default: all)")
    parser.add_argument("--drift", action="store_true", help="measure long walks")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown")
    parser.add_argument("--processes", type=int, default=1, help="how many measure at once (default: 1)")
    return parser.parse_args(argv)


def choices() -> dict[str, tuple[str, ...]]:
    """What can be chosen."""
    rules = (*scirs2_adapters.names(), *with_value())
    return {"rules": rules, "adapters": drivers(), "paths": PATHS, "dtypes": DTYPES}


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and say whether all is well."""
    chosen = arguments(argv)
    wanted = {name.removesuffix("s"): getattr(chosen, name).split(",") for name in choices()}
    dtypes = [d for d in (long.BOUND if chosen.drift else DTYPES) if d in wanted["dtype"]]
    cells = [c for c in table() if c.dtype in dtypes and all(getattr(c, k) in v for k, v in wanted.items())]
    cells.sort(key=lambda c: dtypes.index(c.dtype))  # each row's cells stay together, in their order
    entries = dict(rows(cells, far if chosen.drift else short, chosen.processes))
    said = {d: page.allowed(d, drift=chosen.drift) for d in dtypes}
    floors = {(c.rule, c.dtype): f"{long.path(c.rule, c.dtype).floor:.1e}" for c in cells} if chosen.drift else {}
    text = page.page(said, entries, floors)
    print(text)
    if chosen.write:
        chosen.write.write_text(text)
    failed = [cell for cell, (_, fine) in entries.items() if not fine]
    for cell in failed:
        print(f"beyond its tolerance: {cell}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
