"""The verb `scirs2 report`: what this package does on this machine, measured. Ends with 1 if a measurement fails."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .doctor import kernel, versions
from .output import make, matplotlib_is_here


def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the page and its figures.")] = Path(
        "report-output"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Under two minutes: fewer steps, models and optimizers.")
    ] = False,
) -> None:
    """Measure this machine: integration, step times, a model in each framework, convergence; writes a page of HTML."""
    matplotlib_is_here("report")
    make(output)
    from scirs2_adapters.report.run import run
    from scirs2_adapters.report.section import FULL, QUICK

    sections = run(output, QUICK if quick else FULL, {**versions(), **kernel()}, Console())
    if any(section.failed for section in sections):
        raise typer.Exit(1)
