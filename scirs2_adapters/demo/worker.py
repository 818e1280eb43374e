"""One framework of the demo, in a process of its own: `python -m scirs2_adapters.demo.worker ROOM SETTINGS`.

A process each, because frameworks bring thread pools of their own that do not mix. What happens is told on standard
output, one JSON object a line; whatever frameworks print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from scirs2_adapters.commands.probe import path_taken
from scirs2_adapters.core.errors import MissingExtraError

from .adapter import Room, Watch
from .data import HYPER, MODULES, Settings
from .timing import paired


def main() -> None:
    """Make all runs of the room named on the command line."""
    name, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def emit(event: str, **facts: Any) -> None:
        events.write(json.dumps({"event": event, **facts}) + "\n")

    try:
        import_module(f"scirs2_adapters.{name}")  # says what to install, which the framework would not
        room: Room = import_module(f".{MODULES[name]}", __package__).Room(settings)
    except MissingExtraError as error:
        emit("missing", why=str(error))
        return
    emit(
        "room",
        runs={optimizer: room.kinds(optimizer) for optimizer in HYPER},
        own=dict(room.OWN),
        path=path_taken(name),
    )
    for optimizer in HYPER:
        for kind in room.kinds(optimizer):
            _run(name, room, optimizer, kind, emit)
    for optimizer in room.OWN:
        times = paired(*room.steppers(optimizer), rounds=settings.rounds, repeat=3)
        emit("timed", optimizer=optimizer, **times._asdict())


def _run(name: str, room: Room, optimizer: str, kind: str, emit: Any) -> None:
    watch = Watch(room.settings.of(name), lambda event, **facts: emit(event, optimizer=optimizer, kind=kind, **facts))
    emit("begin", optimizer=optimizer, kind=kind)
    loss, accuracy = room.train(optimizer, kind, watch)
    file = Path(room.settings.output) / f"{name}-{optimizer}-{kind}.npy"
    watch.save(file)
    emit("done", optimizer=optimizer, kind=kind, loss=loss, accuracy=accuracy, trajectory=str(file))


if __name__ == "__main__":
    main()
