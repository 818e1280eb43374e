"""Ways to step a model with AdamW, side by side: each is a separate program in a separate process."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from scirs2_adapters.demo.processes import LIMIT
from scirs2_adapters.demo.run import progress_of

from . import memory, programs
from .figures import bars
from .section import Effort, MeasurementError, Section, shown
from .ways import PATTERNS, Pattern, Supplies
from .work import ended

TITLE = "Integration"
TEXT = (
    "AdamW steps one float32 vector of {numbers:,} parameters {steps} times, with the same gradients in each program. "
    "Start: from launching the process to the end of the first step, imports included. Step: the median of the others. "
    "Memory: the peak of the whole process. Lines: those of the program below that are not blank. Difference: the "
    "largest distance of a parameter from that of the first program. In numpy, PyTorch and JAX several threads step a "
    "large vector; the C and WebAssembly functions are called by one. The service runs before its program starts; "
    "gradients and parameters travel through the loopback, each step is on the disk before it is answered, and the "
    "memory is that of both processes."
)


@dataclass(frozen=True)
class Measured:
    """Seconds to the end of the first step, seconds of a step, bytes at the peak, and the last parameters."""

    start: float
    step: float
    peak: int | None
    parameters: np.ndarray


def section(effort: Effort, console: Console, patterns: Sequence[Pattern] = PATTERNS) -> Section:
    """Run them one after the other."""
    measured: dict[str, Measured] = {}
    left_out, failed = [], []
    with progress_of(console) as progress:
        task = progress.add_task("Integration", total=len(patterns), loss="")
        for pattern in patterns:
            progress.update(task, description=pattern.name)
            try:
                if obstacle := pattern.obstacle():
                    left_out.append(f"{pattern.name}: {obstacle}")
                else:
                    measured[pattern.name] = measure(pattern, effort)
            except MeasurementError as error:
                failed.append(str(error))
            progress.advance(task)
    return _section(measured, {p.name: p.program for p in patterns if p.name in measured}, effort, left_out, failed)


def measure(pattern: Pattern, effort: Effort) -> Measured:
    """Write the program with what times it, run it, and read what it says.

    Raises MeasurementError when it fails.
    """
    with TemporaryDirectory() as name, pattern.prepare(Path(name)) as supplies:
        folder = Path(name)
        text = whole(pattern, effort, supplies, folder / "result")
        (folder / f"program{pattern.suffix}").write_text(text, encoding="utf-8")
        command = [*pattern.command, f"program{pattern.suffix}" if pattern.suffix else text]
        place, launched = folder if pattern.suffix else None, time.time()
        try:
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=LIMIT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MeasurementError(f"{pattern.name} could not be run: {error}") from error
        if done.returncode:
            raise MeasurementError(ended(pattern.name, done.returncode, done.stderr))
        said = json.loads(done.stdout.strip().splitlines()[-1])
        peaks = [said["peak"], 0 if supplies.process is None else memory.peak(supplies.process)]
        peak = None if None in peaks else sum(peaks)
        parameters = np.fromfile(folder / "result", np.float32)
    return Measured(said["ready"] - launched, median(said["seconds"]), peak, parameters)


def whole(pattern: Pattern, effort: Effort, supplies: Supplies, result: Path) -> str:
    """The program, between what makes its arrays and what times its steps and writes the parameters down."""
    words = {**asdict(supplies), "numbers": effort.numbers, "steps": effort.pattern_steps, "result": str(result)}
    before, after = (text.format(**words) for text in pattern.around)
    return before + pattern.program + after


def _section(
    measured: Mapping[str, Measured], texts: Mapping[str, str], effort: Effort, left_out: list[str], failed: list[str]
) -> Section:
    head = ("program", "start, s", "step, ms", "memory, MiB", "lines", "difference")
    rows = _rows(measured, texts)
    titles = ("time to the first step, s", "time of a step, ms", "peak of memory, MiB", "lines of the program")
    drawn = "Time to the first step, time of a step, memory and lines of each program"
    figures = {"patterns": (bars(titles, rows), drawn)} if rows else {}
    text = TEXT.format(numbers=effort.numbers, steps=effort.pattern_steps)
    return Section("patterns", TITLE, text, head, rows, figures, texts, left_out, failed)


def _rows(measured: Mapping[str, Measured], texts: Mapping[str, str]) -> list[list[str]]:
    rows = []
    for name, m in measured.items():
        gap = float(np.abs(m.parameters - next(iter(measured.values())).parameters).max())
        peak = "-" if m.peak is None else shown(m.peak / 2**20)
        difference = f"{gap:.0e}" if gap else "0"
        rows.append([name, shown(m.start), shown(m.step * 1e3), peak, str(programs.lines(texts[name])), difference])
    return rows
