"""A Python module in a separate process, which reports what it does while it runs: one JSON object a line.

Frameworks have a process each, because their thread pools do not mix and their memory is not told apart otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TextIO, TypeAlias

#: What a worker reports: the name of the event and its facts, as JSON.
Event: TypeAlias = dict[str, Any]
Emit: TypeAlias = Callable[..., None]
#: A run that takes longer than this many seconds hangs.
LIMIT: Final = 600


def events(module: str, words: Sequence[str], environment: Mapping[str, str], errors: TextIO) -> Iterator[Event]:
    """What `python -m module *words` reports, and at the end the event "exit" with its code. A process that reports no
    event "begin" for `LIMIT` seconds is killed.
    """
    command = [sys.executable, "-m", module, *words]
    variables = {**os.environ, **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=variables) as process:
        watchdog = _watchdog(process)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "begin":
                    watchdog.cancel()
                    watchdog = _watchdog(process)
                yield event
            yield {"event": "exit", "code": process.wait()}
        finally:
            watchdog.cancel()
            process.kill()


def _watchdog(process: subprocess.Popen[str]) -> threading.Timer:
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    return timer


def emitter() -> Emit:
    """In such a process: the function that reports an event. What is printed from here on goes to standard error."""
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def emit(event: str, **facts: object) -> None:
        lines.write(json.dumps({"event": event, **facts}) + "\n")

    return emit
