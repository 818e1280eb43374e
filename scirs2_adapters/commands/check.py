"""The verb `scirs2 check`: what an optimizer of anyone's does, beside what it should do.

It ends with 0 if nothing fails, 1 if something does, and 2 for what cannot be checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scirs2_adapters.check.outcome import SubjectError
from scirs2_adapters.check.report import Report, lines
from scirs2_adapters.check.run import checks, driver_of, outcome

from .output import terminal_width

_BAD = 2


def check(
    path: Annotated[str, typer.Argument(metavar="PACKAGE.MODULE:CLASS", help="A class, or a function that makes one.")],
    framework: Annotated[str, typer.Option(help="torch, keras, optax or sklearn.")],
    against: Annotated[str, typer.Option(help="An optimizer as `scirs2 list` names it, to walk beside.")] = "",
    with_: Annotated[str, typer.Option("--with", help="Arguments, such as lr=0.1,betas=(0.9,0.99).")] = "",
    junit: Annotated[Path | None, typer.Option(help="Write the outcome as JUnit's XML, too.")] = None,
) -> None:
    """Check an optimizer, anyone's: arguments, gradients, dtypes, state, schedules and what is around a step."""
    _write(junit, Report(path, framework, ()))  # replaces an old report, and fails now if it cannot be written
    try:
        driver = driver_of(path, framework, with_)
        wanted = checks(driver, against)
    except SubjectError as error:
        raise _bad(str(error)) from error
    outcomes = []
    for each in wanted:
        outcomes.append(outcome(each))
        for line in lines(outcomes[-1], terminal_width()):
            typer.echo(line)
    report = Report(path, framework, tuple(outcomes))
    typer.echo(report.summary())
    _write(junit, report)
    raise typer.Exit(1 if report.failed else 0)


def _write(junit: Path | None, report: Report) -> None:
    try:
        if junit is not None:
            report.write_junit(junit)
    except OSError as error:
        raise _bad(f"`--junit` must be a file that can be written. Received: {str(junit)!r} ({error}).") from error


def _bad(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(_BAD)
