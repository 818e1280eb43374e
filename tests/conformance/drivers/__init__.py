"""One driver for each adapter, found by its file name: `Optimizer(rule, hyper, path, problem)` as `walk.Driver` has it.

A driver is imported when its adapter is driven, so that a run for one framework loads no other.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType


def drivers() -> tuple[str, ...]:
    """The names of all drivers, the core first."""
    stems = {file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_")}
    return ("core", *sorted(stems - {"core"}))


def driver(adapter: str) -> ModuleType:
    """The driver of an adapter."""
    return importlib.import_module(f"{__name__}.{adapter}")
