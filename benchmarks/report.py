"""The tables and figures of the measurements, for docs/, drawn from benchmarks.json, which the runs write."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .row import Row

TITLES = {
    "models": "PyTorch, whole training steps",
    "memory": "PyTorch, memory of training",
    "torch": "PyTorch",
    "torch matrices": "PyTorch, steps with matrices and sums",
    "overhead": "PyTorch, what a step costs apart from arithmetic",
    "jax": "JAX",
    "jax compile": "JAX, compiling a step",
    "keras": "Keras on TensorFlow",
    "keras fit": "Keras on TensorFlow, training",
    "keras jax": "Keras on JAX",
    "keras torch": "Keras on PyTorch",
    "hf": "Hugging Face, whole steps of the Trainer",
    "sklearn": "scikit-learn",
    "sklearn linear": "scikit-learn, whole fits of linear classifiers",
    "first step": "The first step of a fresh process",
}
NOTES = {
    "torch matrices": """Four transformer blocks of width 256 and an embedding, 4 M numbers, ten steps at a time, of
which one decomposes. Where torch has no such optimizer, the other one is pytorch_optimizer's; LAMB and LARS stand
beside AdamW.
""",
    "models": """Random weights, batches of two, float32, dropout as configured. One model is trained by all three
optimizers in turn. Parts are medians by themselves, ours / its, in ms: "gradients" is the forward and backward pass,
"the rest" `zero_grad()`. "Were it free" is the ratio of an optimizer whose step takes no time: none can pass it.

![parts](benchmarks-models.png)
""",
    "memory": """How far three training steps raise the peak of the process's memory over what it is when the model and
its batch are there: activations, gradients, state, and all that the optimizer loads or keeps. Each case has a process
of its own. "Cold cache": the kernel is compiled in that process, as happens once on each machine. Batches of two.
""",
    "keras": """Of the table of a million rows a batch has 1,000. "Peak" is how far the first steps raise the
peak of a process's memory over variable and slots, ours / its: a graph, and the arrays of a step. Keras has no
SparseAdam; its Adam steps all rows.
""",
    "torch": """Each rule that looks at one element at a time, beside the fastest form that torch has of it:
`fused=True`, else the faster of `foreach=True` and the plain loop. Those that torch lacks stand on the mixed model.
""",
}
#: What is shown, where not milliseconds: its name and how many make one.
UNITS = {"overhead": ("µs", 1e3), "memory": ("MiB", 1.0)}
#: The groups whose ratios are drawn, and how.
COLORS = {
    "models": "tab:purple",
    "torch": "tab:red",
    "jax": "tab:blue",
    "keras": "tab:orange",
    "sklearn": "tab:green",
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
    versions = [f"Python {platform.python_version()}"]
    for name in ("torch", "transformers", "jax", "optax", "keras", "tensorflow", "scikit-learn", "numba"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(versions)


@dataclass(frozen=True)
class Measured:
    """The rows of a group, and the run they come from; `load` is what else ran when it began."""

    rows: list[Row]
    machine: str
    date: str
    load: float
    seconds: float


def remembered(file: Path) -> dict[str, Measured]:
    """The results of earlier runs, by group."""
    records = json.loads(file.read_text()) if file.is_file() else {}
    return {group: Measured(**{**one, "rows": [Row(**row) for row in one["rows"]]}) for group, one in records.items()}


def write(measured: Mapping[str, Measured], folder: Path) -> list[Path]:
    """The page, its figures and the data they are drawn from; groups that were not measured now stay as they were."""
    data = folder / "benchmarks.json"
    merged = remembered(data) | dict(measured)
    known = {group: merged[group] for group in TITLES if group in merged}
    records = {group: asdict(one) for group, one in known.items()}
    data.write_text(json.dumps(records, indent=1) + "\n")
    (folder / "benchmarks.md").write_text(markdown(known))
    rows = [row for one in known.values() for row in one.rows]
    files = [data, folder / "benchmarks.md", folder / "benchmarks.png", folder / "benchmarks-models.png"]
    figure([row for row in rows if row.group in COLORS], files[2])
    parts([row for row in rows if row.group == "models"], files[3])
    return [file for file in files if file.is_file()]


def markdown(measured: Mapping[str, Measured]) -> str:
    """The page."""
    machines = list(dict.fromkeys(one.machine for one in measured.values()))
    pieces = [_HEAD.format(machines="\n".join(f"- {machine}" for machine in machines))]
    for group, one in measured.items():
        place = f" on machine {machines.index(one.machine) + 1}" if len(machines) > 1 else ""
        run = f"Measured {one.date}{place}, in {one.seconds:.0f} s; load average before: {one.load:.1f}.\n"
        pieces += [f"## {TITLES[group]}\n", *([NOTES[group]] if group in NOTES else []), table(one.rows), run]
    return "\n".join(pieces)


_HEAD = """# Benchmarks

<!-- Written by `make bench`; not by hand. -->

One optimizer step, ours beside the framework's own, in one process and in turn: medians, and the median of the ratios
of neighbors. Below 1, ours is faster. Ratios hold from machine to machine better than times do.

{machines}

![ratios](benchmarks.png)

GB/s is what a step must move, its arrays once in and once out, by the time of our step. "Of triad" is that by what
`a += s * b` reaches in the same rounds, in torch with all threads, over arrays as large as the model.
"""


def table(rows: Sequence[Row]) -> str:
    """One group as a markdown table, without the columns that have nothing in them."""
    unit, factor = UNITS.get(rows[0].group, ("ms", 1.0)) if rows else ("ms", 1.0)
    columns: dict[str, list[str]] = {
        "case": [r.case for r in rows],
        f"ours, {unit}": [_shown(r.ours, factor) for r in rows],
        "baseline": [r.baseline for r in rows],
        f"its {unit}": [_shown(r.theirs, factor) for r in rows],
        "ratio": ["" if r.ratio is None else f"{r.ratio:.2f}" for r in rows],
        "were it free": ["" if r.least is None else f"{r.least:.2f}" for r in rows],
        "GB/s": ["" if r.gigabytes is None else f"{r.gigabytes:.1f}" for r in rows],
        "of triad": ["" if r.triad is None else f"{r.triad:.0%}" for r in rows],
    }
    for part in dict.fromkeys(name for r in rows for name in r.parts):
        columns[part] = [" / ".join(_shown(x) for x in r.parts.get(part, ())) for r in rows]
    shown = {head: cells for head, cells in columns.items() if any(cells)}
    rule = "|".join("---" if head in ("case", "baseline") else "---:" for head in shown)
    lines = [" | ".join(cells) for cells in zip(*shown.values(), strict=True)]
    return "\n".join([f"| {' | '.join(shown)} |", f"|{rule}|", *(f"| {line} |" for line in lines)]) + "\n"


def _shown(time: float | None, factor: float = 1.0) -> str:
    """Three digits, and all of those before the point."""
    if time is None:
        return ""
    value = time * factor
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _plot(height: float) -> tuple[Any, Any, Any]:
    """matplotlib, which only a run needs, with a figure and its axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt, *plt.subplots(figsize=(11, 1 + height), layout="constrained")


def figure(rows: Sequence[Row], file: Path) -> None:
    """All ratios as bars on a logarithmic axis; the line at 1 is the framework's own."""
    shown = [r for r in rows if r.ratio is not None][::-1]
    if not shown:
        return
    plt, drawing, axes = _plot(0.27 * len(shown))
    ratios = [r.ratio or 0.0 for r in shown]
    axes.barh(range(len(shown)), [x - 1 for x in ratios], left=1, color=[COLORS[r.group] for r in shown], height=0.7)
    for i, x in enumerate(ratios):
        axes.annotate(f"{x:.2f}", (x, i), (4 if x > 1 else -4, 0), textcoords="offset points", fontsize=8,
                      ha="left" if x > 1 else "right", va="center")  # fmt: skip
    for group in dict.fromkeys(r.group for r in shown[::-1]):
        axes.barh(0, 0, color=COLORS[group], label=TITLES[group])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9, frameon=False)
    axes.set_yticks(range(len(shown)), [f"{r.case}  /  {r.baseline}" for r in shown], fontsize=8)
    axes.axvline(1, color="black", lw=1)
    axes.set(xscale="log", xlabel="time of our step / time of the framework's own  (left of 1: ours is faster)")
    axes.set_xlim(min(ratios) / 2, max(1.3, max(ratios) * 2))  # the numbers beside the bars fit in
    axes.margins(y=0.01)
    drawing.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(drawing)


def parts(rows: Sequence[Row], file: Path) -> None:
    """Where the time of a training step goes: each case with ours above its baselines, as bars of parts."""
    if not rows:
        return
    bars: dict[tuple[str, str], dict[str, float]] = {}
    for r in rows:
        bars.setdefault((r.case, "ours"), {name: pair[0] for name, pair in r.parts.items()})
        bars[r.case, r.baseline] = {name: pair[1] for name, pair in r.parts.items()}
    plt, drawing, axes = _plot(0.3 * len(bars))
    starts = [0.0] * len(bars)
    for name, color in zip(rows[0].parts, ("lightgray", "tab:purple", "black"), strict=False):
        widths = [bar[name] for bar in bars.values()]
        axes.barh(range(len(bars)), widths, left=starts, color=color, label=name, height=0.7)
        starts = [a + b for a, b in zip(starts, widths, strict=True)]
    axes.set_yticks(range(len(bars)), [f"{case}  /  {whose}" for case, whose in bars], fontsize=8)
    axes.invert_yaxis()
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9, frameon=False)
    axes.set(xlabel="ms of one training step")
    drawing.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(drawing)
