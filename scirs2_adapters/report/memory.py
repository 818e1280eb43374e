"""The memory of a process, in bytes, as Linux accounts for it; None elsewhere."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def resident() -> int | None:
    """What this process has in memory now."""
    return _line("/proc/self/status", "VmRSS")


def peak(process: int | str = "self") -> int | None:
    """The most that a process has had since it began, or since it called `count_peak_anew`."""
    return _line(f"/proc/{process}/status", "VmHWM")


def count_peak_anew() -> None:
    """Let the peak of this process begin at what there is now, where this is permitted."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def growth(start: int | None) -> int | None:
    """How far the peak has risen above what `resident` was at the start."""
    highest = peak()
    return None if highest is None or start is None else highest - start


def available() -> int:
    """What a new allocation may take without swapping: elsewhere than on Linux, half of the machine's memory."""
    return _line("/proc/meminfo", "MemAvailable") or total() // 2


def total() -> int:
    """The memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _line(file: str, name: str) -> int | None:
    if not Path(file).is_file():
        return None
    lines = Path(file).read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
