"""What verbs that draw need before they begin: matplotlib, and a folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer


def matplotlib_is_here(what: str) -> None:
    """Or say what `what` needs, and end with 1."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise _exit(
            f'The {what} draws with matplotlib, which is not installed. Install it with `pip install "scirs2[demo]"` '
            '(from a checkout: `pip install ".[demo]"`).'
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
        raise _exit(message) from error


def _exit(message: str) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(1)
