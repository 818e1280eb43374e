"""One framework of the demo, in a separate process: `python -m scirs2_adapters.demo.worker ADAPTER SETTINGS`.

Each framework has a process, because their thread pools do not mix. Events are written to standard output, one JSON
object a line; what frameworks print goes to standard error.
"""

from __future__ import annotations

import functools
import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

from scirs2_adapters.core.errors import MissingExtraError

from .adapter import Adapter, Watch
from .data import MODULES, Settings
from .probe import path_taken
from .processes import Emit, emitter
from .timing import paired


def main() -> None:
    """Make all runs of the adapter named on the command line."""
    name, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    emit = emitter()
    try:
        import_module(f"scirs2_adapters.{name}")  # its error says what to install
        adapter: Adapter = import_module(f".{MODULES[name]}", __package__).Adapter(settings)
    except MissingExtraError as error:
        emit("missing", why=str(error))
        return
    runs = {optimizer: adapter.kinds(optimizer) for optimizer in settings.hyper}
    emit("adapter", runs=runs, counterparts=adapter.counterparts(), path=path_taken(name))
    for optimizer, kinds in runs.items():
        for kind in kinds:
            _run(name, adapter, optimizer, kind, functools.partial(emit, optimizer=optimizer, kind=kind))
    for optimizer in adapter.counterparts():
        ours, theirs = adapter.stepper(optimizer, "ours"), adapter.stepper(optimizer, "own")
        emit("timed", optimizer=optimizer, ratio=paired(ours, theirs, rounds=settings.rounds, repeat=3).ratio)


def _run(name: str, adapter: Adapter, optimizer: str, kind: str, emit: Emit) -> None:
    watch = Watch(adapter.settings.of(name), emit, adapter.settings.snapshots)
    emit("begin")
    try:
        loss, accuracy = adapter.train(optimizer, kind, watch)
    except ValueError as error:  # scikit-learn ends a run whose parameters are not finite; the next one begins anew
        if "non-finite" not in str(error):
            raise
        return
    file = Path(adapter.settings.output) / f"{name}-{optimizer}-{kind}.npy"
    np.save(file, np.stack(watch.snapshots))
    emit("done", loss=loss, accuracy=accuracy, trajectory=str(file))


if __name__ == "__main__":
    main()
