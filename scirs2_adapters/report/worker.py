"""The measurements that run in a separate process: `python -m scirs2_adapters.report.worker TASK OPTIONS`."""

from __future__ import annotations

import json
import sys
from importlib import import_module

from scirs2_adapters.core.errors import MissingExtraError
from scirs2_adapters.demo.processes import Emit, emitter


def main() -> None:
    """Make the measurement that is named on the command line."""
    emit = emitter()
    try:
        perform(sys.argv[1], emit, sys.argv[2])
    except MissingExtraError as error:
        emit("missing", why=str(error))


def perform(task: str, emit: Emit, words: str) -> None:
    """A task by its name, with its options as JSON, in this process. Its modules are loaded here, because each loads a
    framework.

    Raises MissingExtraError when the framework is not installed.
    """
    options = json.loads(words)
    if task == "sizes":
        from .sizes import step_sizes

        step_sizes(emit, **options)
    elif task == "learn":
        from .learning import learn

        learn(emit, **options)
    else:
        import_module("scirs2_adapters.torch")  # its error says what to install
        from .torch_model import train

        train(emit, **options)


if __name__ == "__main__":
    main()
