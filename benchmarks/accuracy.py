"""Accuracies of every optimizer on scikit-learn's digits in each adapter: `python -m benchmarks.accuracy`.

This is `scirs2 demo --optimizers all`, and writes what it prints to docs/accuracy.json: after every few optimizers,
because all of them take half an hour. Optimizers that are not trained now keep what was measured before; `--new` trains
those alone that the file does not have.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from scirs2_adapters.demo.catalogue import ADAPTERS, Result, dense
from scirs2_adapters.demo.data import Settings
from scirs2_adapters.demo.run import run_catalogue

FILE = Path(__file__).resolve().parents[1] / "docs/accuracy.json"


#: Optimizers that are trained between two writes.
TOGETHER = 8


def measured() -> dict[str, Any]:
    """What the file has."""
    results: dict[str, Any] = json.loads(FILE.read_text()) if FILE.is_file() else {}
    return results


def keep(results: Mapping[str, Result]) -> None:
    """Write results beside those of other optimizers."""
    rows = measured() | {name: asdict(result) for name, result in results.items()}
    FILE.write_text(json.dumps({k: rows[k] for k in sorted(rows) if k in dense()}, indent=1) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--only", default=",".join(dense()), help="optimizers by comma (default: all)")
    parser.add_argument("--new", action="store_true", help="of these, those that the file does not have")
    chosen = parser.parse_args(arguments)
    wanted = chosen.only.split(",")
    if unknown := set(wanted) - set(dense()):
        parser.error(f"`--only` must name some of {', '.join(dense())}. Received: {min(unknown)!r}.")
    if chosen.new:
        wanted = [name for name in wanted if name not in measured()]
    for start in range(0, len(wanted), TOGETHER):
        with tempfile.TemporaryDirectory() as folder:
            some = wanted[start : start + TOGETHER]
            reports, results = run_catalogue(some, ADAPTERS, Settings(folder), Console())
        if any(report.trouble for report in reports):
            raise SystemExit(f"Nothing is written of {', '.join(some)}: not every adapter has run.")
        keep(results)
    print(f"Written: {FILE}")


if __name__ == "__main__":
    main()
