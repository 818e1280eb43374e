"""The process behind `scirs2 serve`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scirs2_adapters.core.errors import bad_value, require

#: The oldest versions that are known to work, as the extra has them.
NEEDS = {"fastapi": ("FastAPI", "0.115"), "uvicorn": ("uvicorn", "0.30")}


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8642,
    tokens: Path | None = None,
    queue: int = 8,
    max_body: int = 1 << 28,
    told: Callable[[str, Path], object] = lambda address, tokens: None,
) -> None:
    """Serve the models in a folder until the process is told to end.

    Arguments:
      folder: where models and tokens are; made if it is not there. No other process may serve it at the same time.
      host, port: where to listen. The default is reached from this machine only. Port 0 is one that is free.
      tokens: a file with a token on each line, each for one model; by default `tokens` in the folder, made with one
        token in it if it is not there.
      queue: requests of one model that may wait or be worked on; more are answered with 429.
      max_body: most bytes of a request's body; longer ones are answered with 413.
      told: is called with the address and the file of tokens, once requests are taken.
    """
    require("serve", NEEDS)
    import uvicorn

    from .app import application
    from .store import Store

    for name, number in (("queue", queue), ("max_body", max_body)):
        if number < 1:
            raise bad_value("scirs2 serve", name, "must be a whole number >= 1", number)
    store = Store(folder, tokens)
    try:
        app = application(store, queue=queue, max_body=max_body)
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=30)
        listening = config.bind_socket()
        listening.listen(config.backlog)  # who is told the address may connect at once
        at = f"[{host}]" if ":" in host else host
        told(f"http://{at}:{listening.getsockname()[1]}", store.tokens_file)
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        store.close()
