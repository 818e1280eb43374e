"""The measurements that have a process of their own: `python -m scirs2_adapters.report.worker TASK OPTIONS`."""

from __future__ import annotations

import json
import sys
from importlib import import_module

from scirs2_adapters.core.errors import MissingExtraError
from scirs2_adapters.demo.processes import emitter


def main() -> None:
    """Make the measurement that is named on the command line."""
    task, options = sys.argv[1], json.loads(sys.argv[2])
    emit = emitter()
    try:
        if task == "sizes":
            from .sizes import step_sizes

            step_sizes(emit, **options)
        else:
            import_module("scirs2_adapters.torch")  # its error says what to install
            from .torch_model import train

            train(emit, **options)
    except MissingExtraError as error:
        emit("missing", why=str(error))


if __name__ == "__main__":
    main()
