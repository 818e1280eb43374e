"""The table of docs/versions.md: with which versions the core checks ran, and how they ended."""

from typing import Any

import pages

from scirs2_adapters.adapters import adapters
from scirs2_adapters.commands.deployment import version_runs

#: In the order of age, as tests/versions.py names them.
SETS = ("lowest", "pinned", "newest")


def matrix() -> str:
    """A row for each adapter and set of versions; of the pinned ones, which all tests run with, where there was one."""
    runs = {(run["adapter"], run["set"]): run for run in version_runs()}
    cells = [(adapter, which) for adapter in ("core", *adapters()) for which in SETS]
    rows = [row(*cell, runs.get(cell)) for cell in cells if cell in runs or cell[1] != "pinned"]
    return pages.table(["adapter", "versions", "installed", "core checks", "date"], rows)


def row(adapter: str, which: str, run: dict[str, Any] | None) -> list[str]:
    """What a run had installed and how it ended."""
    if run is None:
        return [adapter, which, "", "not run", ""]
    installed = ", ".join(f"{name} {release}" for name, release in run["versions"].items())
    ended = ", ".join(f"{run[word]} {word}" for word in ("passed", "failed", "skipped") if run[word])
    return [adapter, which, installed, ended, run["date"]]
