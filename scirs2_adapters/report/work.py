"""Workers of the report, their events, and their errors."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from typing import Final

from scirs2_adapters.core.errors import MissingExtraError
from scirs2_adapters.demo.processes import Event, events

from .section import MeasurementError

#: With all threads and without accelerators.
ALONE: Final = {"CUDA_VISIBLE_DEVICES": ""}


def working(task: str, environment: Mapping[str, str], **options: object) -> Iterator[Event]:
    """The events of a task of `worker.py`, in a separate process.

    Raises MissingExtraError when a framework is not installed.
    Raises MeasurementError when the process ends early.
    """
    with tempfile.TemporaryFile("w+") as errors:
        words = (task, json.dumps(options))
        for event in events(f"{__package__}.worker", words, environment, errors):
            if event["event"] == "missing":
                raise MissingExtraError(event["why"])
            if event["event"] != "exit":
                yield event
            elif event["code"]:
                errors.seek(0)
                raise MeasurementError(ended(spelled(task, options), event["code"], errors.read()))


def ended(process: str, code: int, said: str) -> str:
    """The sentence for a process that failed: its last line says why."""
    last = said.strip().splitlines() or ["without a word"]
    return f"The process of {process} ended with {code}: {last[-1]}"


def spelled(name: str, options: Mapping[str, object]) -> str:
    """A call as it is written."""
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in options.items())})"
