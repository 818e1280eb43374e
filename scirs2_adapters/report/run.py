"""Measures the sections one after the other, and writes the page and its figures."""

from __future__ import annotations

import io
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from scirs2_adapters.core.errors import MissingExtraError

from . import convergence, learning, memory, patterns, sizes, workflow
from .page import page
from .section import Effort, MeasurementError, Section

Measure = Callable[[Effort, Console], Section]
#: The sections in their order, each with its title for when it cannot be measured.
SECTIONS: Mapping[str, tuple[str, Measure]] = {
    "patterns": (patterns.TITLE, patterns.section),
    "sizes": (sizes.TITLE, sizes.section),
    "models": (learning.TITLE, learning.section),
    "workflow": (workflow.TITLE, workflow.section),
    "digits": (convergence.TITLE, convergence.section),
}


def run(output: Path, effort: Effort, facts: Mapping[str, str], console: Console) -> list[Section]:
    """Everything, into a folder that is there; `facts` are versions. Says on the last line where the page is."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    began = time.time()
    sections = [measured(name, effort, console) for name in SECTIONS]
    date = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(began))
    written = f"Measured {date} in {time.time() - began:.0f} s; load average before: {load}"
    file = write(output, sections, {**hardware(), **facts}, written)
    for section in sections:
        for sentence in (*section.left_out, *section.failed):
            console.print(f"[bold]{section.title}:[/bold] {escape(sentence)}", soft_wrap=True, highlight=False)
    console.print(f"Report: {file}", soft_wrap=True, highlight=False, markup=False)
    return sections


def measured(name: str, effort: Effort, console: Console) -> Section:
    """A section, or why there is none."""
    title, measure = SECTIONS[name]
    try:
        return measure(effort, console)
    except MissingExtraError as error:
        return Section(name, title, left_out=[str(error)])
    except MeasurementError as error:
        return Section(name, title, failed=[str(error)])
    except Exception as error:  # what the other sections have measured for minutes is not thrown away
        console.print_exception()
        return Section(name, title, failed=[f"{type(error).__name__}: {error}"])


def write(output: Path, sections: Sequence[Section], facts: Mapping[str, str], written: str) -> Path:
    """The figures and the page."""
    pictures = {}
    for section in sections:
        for name, (figure, _) in section.figures.items():
            drawn = io.BytesIO()
            figure.savefig(drawn, dpi=120, format="png")
            pictures[name] = drawn.getvalue()
            (output / f"report-{name}.png").write_bytes(pictures[name])
    file = output / "report.html"
    file.write_text(page(sections, pictures, facts, written), encoding="utf-8")
    return file


def hardware() -> dict[str, str]:
    """Processor, the cores that this process may use, memory."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": named[0] if named else platform.processor() or platform.machine(),
        "cores": str(cores),
        "memory": f"{memory.total() / 2**30:.1f} GiB",
    }
