"""The verb `scirs2 serve`: optimizers behind HTTP, for programs in any language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .state import reported


def serve(
    folder: Annotated[Path, typer.Argument(help="Where models and tokens are; made if it is not there.")],
    host: Annotated[str, typer.Option(help="The address to listen at; the default is this machine's alone.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8642,
    tokens: Annotated[Path | None, typer.Option(help="File with a token a line. FOLDER/tokens by default.")] = None,
    queue: Annotated[int, typer.Option(help="Requests of a model that may wait; more get 429.", min=1)] = 8,
    max_body: Annotated[int, typer.Option(help="Most MiB of a request's body; longer ones get 413.", min=1)] = 256,
) -> None:
    """Keep parameters and optimizer state, and step them by the gradients that clients send over HTTP."""
    from scirs2_adapters.serve.server import serve as run

    with reported():
        run(folder, host=host, port=port, tokens=tokens, queue=queue, max_body=max_body << 20, told=_told)


def _told(address: str, tokens: Path) -> None:
    typer.echo(f"Serving at {address}; tokens: {tokens}")
