"""The memory of this process, in bytes, as Linux accounts for it; None elsewhere."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def resident() -> int | None:
    """What the process has in memory now."""
    return _line("/proc/self/status", "VmRSS")


def peak() -> int | None:
    """The most that it has had since `count_peak_anew`."""
    return _line("/proc/self/status", "VmHWM")


def count_peak_anew() -> None:
    """Let the peak begin at what there is now, where this is permitted."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


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
