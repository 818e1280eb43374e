"""The threads that a framework keeps in an OpenMP runtime, to be worked with instead of threads of the step's.

Waiting threads of OpenMP spin for milliseconds, on the processors that threads started beside them would need.
"""

from __future__ import annotations

import os
from pathlib import Path

#: In the flags of a process in Linux: forked, and still the program of its parent.
_FORKED = 0x40


def is_forked() -> bool:
    """Whether this process is a fork of another, whose threads its OpenMP runtime believes to have; False where the
    system does not tell.
    """
    try:
        _, _, fields = Path("/proc/self/stat").read_text().rpartition(")")
        return bool(int(fields.split()[6]) & _FORKED)
    except (OSError, ValueError, IndexError):
        return False


class ParallelRegion:
    """A function of an OpenMP runtime that calls another one on all threads of the calling thread's team.

    `address` is that of `GOMP_parallel`, or of what has its arguments and its meaning; 0 if there is none. It becomes 0
    in a forked child, which would wait for threads of its parent without end.
    """

    def __init__(self, address: int) -> None:
        self.address = 0 if is_forked() else address
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close)

    def _close(self) -> None:
        self.address = 0


#: Of no runtime: threads are started.
NO_REGION = ParallelRegion(0)
