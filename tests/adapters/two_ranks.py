"""Runs a module in two processes over gloo and reads what each reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.boundaries.support import ROOT

#: Seconds after which a rank that waits for the other is ended.
LIMIT = 600


def reports(module: str, folder: Path, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both ranks write to `rank0.json` and `rank1.json`; the module gets its rank, the folder and the names."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = []
    for rank in range(2):
        command = [sys.executable, "-m", module, str(rank), str(folder), *names]
        with (folder / f"log{rank}").open("w") as log:
            ranks.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
    _wait(ranks)
    logs = [(folder / f"log{rank}").read_text()[-3000:] for rank in range(2)]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(logs)
    first, second = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2))
    return first, second


def _wait(ranks: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until all have ended; if one fails or time is up, the others are ended too."""
    end = time.monotonic() + LIMIT
    try:
        while any(rank.poll() is None for rank in ranks):
            if time.monotonic() > end or any(rank.poll() for rank in ranks):
                break
            time.sleep(0.05)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
