"""Accuracies of every optimizer on scikit-learn's digits in each adapter: `python -m benchmarks.accuracy`.

This is `scirs2 demo --optimizers all`, and writes what it prints to docs/accuracy.json. Optimizers that are not trained
now keep what was measured before.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from scirs2_adapters.demo.catalogue import ADAPTERS, dense
from scirs2_adapters.demo.data import Settings
from scirs2_adapters.demo.run import run_catalogue

FILE = Path(__file__).resolve().parents[1] / "docs/accuracy.json"


def main(given: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--only", default=",".join(dense()), help="optimizers by comma (default: all)")
    wanted = parser.parse_args(given).only.split(",")
    if unknown := set(wanted) - set(dense()):
        parser.error(f"`--only` must name some of {', '.join(dense())}. Received: {min(unknown)!r}.")
    found = json.loads(FILE.read_text()) if FILE.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        reports, results = run_catalogue(wanted, ADAPTERS, Settings(folder), Console())
    if any(report.trouble for report in reports):
        raise SystemExit("Nothing is written: not every adapter has run.")
    found |= {name: asdict(result) for name, result in results.items()}
    FILE.write_text(json.dumps({k: found[k] for k in sorted(found) if k in dense()}, indent=1) + "\n")
    print(f"Written: {FILE}")


if __name__ == "__main__":
    main()
