"""A process that has imported a framework and runs each text in a copy of itself: to import one takes longer than most
texts do, and none sees what another has done.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.boundaries.support import ROOT

#: A copy runs its blocks as if they were the page, so that a traceback shows the page's own line numbers.
SERVER = """
import json, os, sys
exec(sys.argv[1])
for order in sys.stdin:
    if not (child := os.fork()):
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
name, folder, blocks = json.loads(order)
os.chdir(folder)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(os.open("output", os.O_WRONLY | os.O_CREAT), 1)
os.dup2(1, 2)
scope = {"__name__": "__main__"}
for line, code in blocks:
    exec(compile("\\n" * line + code, name, "exec"), scope)
"""


class Preloaded:
    """The process, which has run `first`."""

    def __init__(self, first: str, log: Path, **environment: str) -> None:
        self.log = log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, first],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            )

    def run(self, name: str, folder: Path, blocks: list[tuple[int, str]]) -> None:
        """Runs blocks of a text, each with the line in front of it, in an empty folder; fails with what they print."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps([name, str(folder), blocks]), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise AssertionError(self.log.read_text()) from None
        end = self.process.stdout.readline()
        assert end, self.log.read_text()
        assert end == "0\n", (folder / "output").read_text()

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()
