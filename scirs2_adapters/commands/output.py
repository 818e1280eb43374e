"""What verbs that draw need before they begin, matplotlib and a folder, and how a verb fails."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer

from scirs2_adapters.core.errors import install


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
