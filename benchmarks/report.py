"""The table and the figure of the measurements, for docs/."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .row import Row

TITLES = {
    "torch": "PyTorch",
    "jax": "JAX",
    "keras": "Keras on TensorFlow",
    "sklearn": "scikit-learn",
    "first step": "The first step of a fresh process",
}


def machine() -> str:
    """Processor, cores this process may use, memory, versions."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB memory, {platform.system()}. {_versions()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in ("torch", "jax", "optax", "keras", "tensorflow", "scikit-learn", "numba"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def markdown(rows: Sequence[Row], load: float) -> str:
    """The whole page; `load` is what else ran when the measurement began."""
    parts = [_HEAD.format(machine=machine(), load=load, date=datetime.date.today())]
    for group, title in TITLES.items():
        here = [r for r in rows if r.group == group]
        if here:
            parts += [f"## {title}\n", table(here)]
    return "\n".join(parts)


_HEAD = """# Benchmarks

<!-- Written by `make bench`; not by hand. -->

One optimizer step, ours beside the framework's own, in one process and in turn: medians, and the median of the ratios
of neighbors. Below 1, ours is faster. Ratios hold from machine to machine better than times do.

Machine: {machine}. Load average before: {load:.1f}. Date: {date}.

![ratios](benchmarks.png)

GB/s is what a step must move, its arrays once in and once out, by the time of our step. "Of triad" is that by what
`a += s * b` reaches in the same rounds, in torch with all threads, over arrays as large as the model.
"""


def table(rows: Sequence[Row]) -> str:
    """One group as a markdown table."""
    lines = [
        "| case | ours, ms | baseline | its ms | ratio | GB/s | of triad |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for r in rows:
        cells = [
            r.case, f"{r.ours:.3g}", r.baseline, _shown(r.theirs, ".3g"), _shown(r.ratio, ".2f"),
            _shown(r.gigabytes, ".1f"), _shown(r.triad, ".0%"),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def figure(rows: Sequence[Row], file: Path) -> None:
    """All ratios as bars on a logarithmic axis; the line at 1 is the framework's own."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [r for r in rows if r.ratio is not None and r.group != "first step"][::-1]
    made, axes = plt.subplots(figsize=(11, 1 + 0.27 * len(shown)), layout="constrained")
    colors = {"torch": "tab:red", "jax": "tab:blue", "keras": "tab:orange", "sklearn": "tab:green"}
    ratios = [r.ratio or 0.0 for r in shown]
    axes.barh(range(len(shown)), [x - 1 for x in ratios], left=1, color=[colors[r.group] for r in shown], height=0.7)
    for i, x in enumerate(ratios):
        axes.annotate(f"{x:.2f}", (x, i), (4 if x > 1 else -4, 0), textcoords="offset points", fontsize=8,
                      ha="left" if x > 1 else "right", va="center")  # fmt: skip
    for group in dict.fromkeys(r.group for r in rows if r in shown):
        axes.barh(0, 0, color=colors[group], label=TITLES[group])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=9, frameon=False)
    axes.set_yticks(range(len(shown)), [f"{r.case}  /  {r.baseline}" for r in shown], fontsize=8)
    axes.axvline(1, color="black", lw=1)
    axes.set(xscale="log", xlabel="time of our step / time of the framework's own  (left of 1: ours is faster)")
    axes.set_xlim(min(ratios) / 1.6, max(1.3, max(ratios) * 1.4))
    axes.margins(y=0.01)
    made.savefig(file, dpi=110)
    plt.close(made)
