"""Ways to step a model with AdamW, side by side: each is a program of its own, in a process of its own.

Another way is another entry of `PATTERNS`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.demo.processes import LIMIT
from scirs2_adapters.demo.run import progress_of
from scirs2_adapters.export import export
from scirs2_adapters.export.export import COMPILERS

from . import programs
from .figures import bars
from .section import Effort, MeasurementError, Section, shown
from .work import ended

TITLE = "Integration"
TEXT = (
    "AdamW steps one float32 vector of {numbers:,} parameters {steps} times, with the same gradients in each program. "
    "Start: from launching the process to the end of the first step, imports included. Step: the median of the others. "
    "Memory: the peak of the whole process. Lines: those of the program below that are not blank. Difference: the "
    "largest distance of a parameter from that of the first program. In numpy and PyTorch several threads step a "
    "large vector; the C and WebAssembly functions are called by one."
)


@dataclass(frozen=True)
class Pattern:
    """A program; `obstacle` says in a sentence why it cannot run here and what brings it, or nothing."""

    name: str
    program: str
    obstacle: Callable[[], str]
    command: tuple[str, ...] = (sys.executable,)
    suffix: str = ".py"
    around: tuple[str, str] = (programs.BEFORE_PYTHON, programs.AFTER_PYTHON)


def _no_kernel() -> str:
    obstacle = compiler_obstacle()
    return f"The kernel cannot be compiled here ({obstacle}), so it cannot be exported." if obstacle else ""


def _no_torch() -> str:
    return "" if find_spec("torch") else 'PyTorch is not installed: `pip install ".[torch]"` brings it.'


def _no_compiler() -> str:
    missing = "No C compiler is on PATH: a package of the system, such as gcc or clang, brings it."
    return _no_kernel() or ("" if any(map(shutil.which, COMPILERS)) else missing)


def _no_node() -> str:
    missing = "Node is not on PATH: nodejs.org, or the package nodejs of the system, brings it."
    return _no_kernel() or ("" if shutil.which("node") else missing)


PATTERNS = (
    Pattern("numpy, in process", programs.NUMPY, str),
    Pattern("PyTorch, in process", programs.TORCH, _no_torch),
    Pattern("C interface, by ctypes", programs.CTYPES, _no_compiler),
    Pattern(
        "WebAssembly, in Node", programs.NODE, _no_node, ("node",), ".mjs", (programs.BEFORE_NODE, programs.AFTER_NODE)
    ),
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
    with TemporaryDirectory() as folder, progress_of(console) as progress:
        task = progress.add_task("Integration", total=len(patterns), loss="")
        for pattern in patterns:
            progress.update(task, description=pattern.name)
            try:
                if obstacle := pattern.obstacle():
                    left_out.append(f"{pattern.name}: {obstacle}")
                else:
                    measured[pattern.name] = measure(pattern, effort, Path(folder))
            except MeasurementError as error:
                failed.append(str(error))
            progress.advance(task)
    texts = {p.name: p.program for p in patterns}
    head = ("program", "start, s", "step, ms", "memory, MiB", "lines", "difference")
    rows = _rows(measured, texts)
    figures = (
        {"patterns": (bars(head[1:5], rows), "Start, step time, memory and lines of each program")} if rows else {}
    )
    text = TEXT.format(numbers=effort.numbers, steps=effort.pattern_steps)
    shown_programs = {name: texts[name] for name in measured}
    return Section("patterns", TITLE, text, head, rows, figures, shown_programs, left_out, failed)


def measure(pattern: Pattern, effort: Effort, folder: Path) -> Measured:
    """Write the program with what times it, run it, and read what it says."""
    library, result, file = _exported(pattern, folder), folder / "result", folder / f"program{pattern.suffix}"
    words = {"numbers": effort.numbers, "steps": effort.pattern_steps, "library": library, "result": str(result)}
    before, after = (text.format(**words) for text in pattern.around)
    file.write_text(before + pattern.program + after)
    command = [*pattern.command, file.name] if pattern.suffix == ".mjs" else [*pattern.command, "-c", file.read_text()]
    launched = time.time()
    place = folder if pattern.suffix == ".mjs" else None
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeasurementError(f"{pattern.name} could not be run: {error}") from error
    if done.returncode:
        raise MeasurementError(ended(pattern.name, done.returncode, done.stderr))
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return Measured(said["ready"] - launched, median(said["seconds"]), said["peak"], np.fromfile(result, np.float32))


def _exported(pattern: Pattern, folder: Path) -> str:
    """The files of AdamW that the program loads; the path of the library, if it takes one."""
    if pattern.suffix == ".mjs":
        export("adamw", folder, target="wasm32")
    elif "LIBRARY" in pattern.program:
        return str(export("adamw", folder).library)
    return ""


def _rows(measured: dict[str, Measured], texts: dict[str, str]) -> list[list[str]]:
    rows = []
    for name, m in measured.items():
        gap = float(np.abs(m.parameters - next(iter(measured.values())).parameters).max())
        memory = "-" if m.peak is None else shown(m.peak / 2**20)
        difference = f"{gap:.0e}" if gap else "0"
        rows.append([name, shown(m.start), shown(m.step * 1e3), memory, str(programs.lines(texts[name])), difference])
    return rows
