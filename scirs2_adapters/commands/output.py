"""What verbs that draw need before they begin, matplotlib and a folder, where tables go, and how a verb fails."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import typer
from rich.console import Console

from scirs2_adapters.core.errors import install

#: Wider than any table: a file is not cut to the width of a terminal.
_UNLIMITED = 10_000


def terminal_width() -> int:
    """The width of standard output in characters; 0 for a file or a pipe, which have none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


def tables() -> Console:
    """Standard output for tables: as wide as the terminal, or as the tables where it is a file or a pipe."""
    return Console(width=terminal_width() or _UNLIMITED)


def matplotlib_is_here(caller: str) -> None:
    """Or say what `what` needs, and end with 1."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise failed(
            f"The {caller} draws with matplotlib, which is not installed. Install it with {install('demo')}."
        ) from error
    del matplotlib


def make(output: Path) -> None:
    """Make the folder `--output`, or say what is in the way, and end with 1."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):  # tried now, not after minutes of measuring
            pass
    except OSError as error:
        message = f"`--output` must be a folder that can be made. Received: {str(output)!r} ({error})."
        raise failed(message) from error


def failed(message: str) -> typer.Exit:
    """Say the message on standard error; raising what is returned ends the command with 1."""
    typer.echo(message, err=True)
    return typer.Exit(1)
