"""`scirs2 drift`: where two recorded runs part, and why. Ends with 0 if they do not, 1 if they do, 2 for bad input."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from scirs2_adapters.core.portable.recording import FOLDER

from .state import names_in, reported


def drift(
    a: Annotated[str, typer.Argument(metavar="A", help="A folder that `scirs2_adapters.record` wrote.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one, or with --run both are commands.")],
    run: Annotated[bool, typer.Option("--run", help="Run A and B, which record without a path.")] = False,
    names: Annotated[Path | None, typer.Option(help="JSON: names of parameters in B to names in A.")] = None,
    layout: Annotated[str, typer.Option(help="How kernels lie where it is not said: torch, keras, flax.")] = "",
    tolerance: Annotated[float, typer.Option(help="The part of a norm that is rounding; by dtype if 0.")] = 0.0,
) -> None:
    """Compare two recordings step by step; print the first difference, and the known difference that explains it."""
    from scirs2_adapters.drift import compare

    with reported(), tempfile.TemporaryDirectory(prefix="scirs2-drift-") as folder:
        if run:
            a, b = (_run(command, Path(folder) / name) for name, command in (("a", a), ("b", b)))
        result = compare(a, b, names=names_in(names), layout=layout or None, tolerance=tolerance or None)
        typer.echo(str(result))
    if result.step is not None:
        raise typer.Exit(1)


def _run(command: str, folder: Path) -> str:
    """The folder with what a program has recorded."""
    try:
        ended = subprocess.run(shlex.split(command), env={**os.environ, FOLDER: str(folder)}, check=False).returncode
    except (OSError, ValueError, IndexError) as error:  # no program, or no words of a shell
        why = "an empty command" if isinstance(error, IndexError) else str(error)
        raise ValueError(f"With `--run`, A and B must be commands. Received: {command!r} ({why}).") from error
    if ended:
        raise ValueError(f"`{command}` must end with 0. Received: {ended}.")
    if not folder.is_dir():
        raise ValueError(f"`{command}` must call `scirs2_adapters.record(optimizer)` without a path. It did not.")
    return str(folder)
