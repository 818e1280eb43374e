"""`scirs2 serve` on the loopback, in a separate process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .section import MeasurementError
from .work import ended


@dataclass(frozen=True)
class Service:
    """Where it listens, the token of its only model, and the number of its process."""

    address: str
    token: str
    process: int


@contextmanager
def running() -> Iterator[Service]:
    """A service with an empty folder, until the block ends.

    Raises MeasurementError when it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="scirs2-service-") as folder, tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "scirs2_adapters.cli", "serve", folder, "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()  # Serving at ADDRESS; tokens: FILE
                if not line:
                    code = process.wait()
                    errors.seek(0)
                    raise MeasurementError(ended("scirs2 serve", code, errors.read()))
                token = Path(folder, "tokens").read_text(encoding="utf-8").strip()
                yield Service(line.split()[2].rstrip(";"), token, process.pid)
            finally:
                process.terminate()
