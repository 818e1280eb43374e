"""What the demo shows: gaps between trajectories, the table, the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.table import Table
from rich.text import Text

#: How the adapters are called in public.
TITLES: Final = {"torch": "PyTorch", "tf": "Keras", "jax": "JAX", "sklearn": "scikit-learn", "hf": "HF Trainer"}
OPTIMIZERS: Final = {"adamw": "AdamW", "lion": "Lion"}


@dataclass
class Run:
    """One training run."""

    adapter: str
    optimizer: str
    kind: str
    losses: list[float] = field(default_factory=list)
    loss: float = np.nan
    accuracy: float = np.nan
    trajectory: str = ""
    gap: np.ndarray | None = None


@dataclass
class Report:
    """What the process of one adapter has reported."""

    adapter: str
    runs: list[Run] = field(default_factory=list)
    counterparts: dict[str, str] = field(default_factory=dict)
    path: str = ""
    ratios: dict[str, float] = field(default_factory=dict)
    trouble: str = ""
    absent: bool = False
    exit_code: int = 0


def measure_gaps(reports: Sequence[Report]) -> str:
    """Fill in each run's distance to the reference; returns the adapter that is the reference for digits."""
    done = [run for f in reports for run in f.runs if run.trajectory]
    base = next((f.adapter for f in reports if f.adapter != "hf" and any(r.trajectory for r in f.runs)), "")
    for run in done:
        adapter, kind = ("hf", "reference") if run.adapter == "hf" else (base, "ours")
        reference = next((r for r in done if (r.adapter, r.kind, r.optimizer) == (adapter, kind, run.optimizer)), None)
        if reference is not None and reference is not run:
            run.gap = gap(np.load(run.trajectory), np.load(reference.trajectory))
    return base


def gap(trajectory: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Distance of the parameters at each snapshot but the first, by the length of the reference's whole path."""
    a, b = trajectory.astype(np.float64), reference.astype(np.float64)
    path = np.linalg.norm(np.diff(b, axis=0), axis=1).sum()
    return np.linalg.norm(a - b, axis=1)[1:] / max(path, np.finfo(float).tiny)


def table(reports: Sequence[Report]) -> Table:
    """One row for each run, and one for each adapter that could not run. Fits into 80 columns, as a log has them."""
    result = Table(title="The same optimizer in five frameworks", padding=0, show_edge=False)
    for name in ("Framework", "Optimizer", "Path"):
        result.add_column(name, overflow="fold", no_wrap=name != "Optimizer")
    for name in ("Loss", "Accuracy", "Gap", "Step\n/ own"):
        result.add_column(name, justify="right", no_wrap=True)
    for f in reports:
        for run in (r for r in f.runs if r.trajectory and r.kind != "reference"):
            result.add_row(*_row(f, run), style="dim" if run.kind == "own" else "")
        if f.trouble:
            result.add_row(TITLES[f.adapter], Text("not installed" if f.absent else "failed", style="red"))
        result.add_section()
    return result


def _row(report: Report, run: Run) -> list[str]:
    is_peer = run.kind == "own"
    ratio = report.ratios.get(run.optimizer)
    return [
        TITLES[run.adapter],
        report.counterparts[run.optimizer] if is_peer else OPTIMIZERS[run.optimizer],
        "its own" if is_peer else f"{report.path} kernel" if report.path == "host" else report.path,
        f"{run.loss:.4f}",
        f"{run.accuracy:.2%}",
        "reference" if run.gap is None else f"{run.gap.max():.0e}" if run.gap.any() else "same bits",
        "" if is_peer else "-" if ratio is None else f"{ratio:.2f}",
    ]


def explanation(reports: Sequence[Report], reference: str) -> str:
    """What the columns mean."""
    parts = ["Gap: the largest distance of the parameters from the reference's, relative to the length of its path."]
    if reference:
        parts.append(f"The reference is our optimizer in {TITLES[reference]}.")
    if any(f.adapter == "hf" for f in reports):
        parts.append("For the HF Trainer, a small GPT-2 on the standard library's source, it is a plain torch loop.")
    parts.append(
        "Step / own: the time of one step of our optimizer by one of the framework's own, medians, side by side."
    )
    parts.append("Dim rows: the framework's own optimizer.")
    if any(f.adapter == "sklearn" for f in reports):
        parts.append("scikit-learn's nearest to AdamW has no decay.")
    return " ".join(parts)


def figure(reports: Sequence[Report], file: Path) -> None:
    """Loss curves above, distances to the reference below; one column for each problem and optimizer."""
    runs = [(f, r) for f in reports for r in f.runs if r.trajectory]
    columns = [(text, o) for text in (False, True) for o in OPTIMIZERS if any(_in(r, text, o) for _, r in runs)]
    drawing = Figure(figsize=(1 + 3.6 * len(columns), 6.2), layout="constrained")
    axes = drawing.subplots(2, len(columns), squeeze=False)
    for (text, optimizer), (top, bottom) in zip(columns, axes.T, strict=True):
        here = [(f, r) for f, r in runs if _in(r, text, optimizer)]
        top.set_title(f"{OPTIMIZERS[optimizer]}: {'GPT-2, source text' if text else 'MLP, digits'}")
        _losses(top, here)
        _gaps(bottom, here)
    axes[0, 0].set_ylabel("loss of the batch, smoothed")
    axes[1, 0].set_ylabel("distance from the reference / path")
    drawing.legend(handles=_legend(runs), loc="outside lower center", ncols=7, frameon=False)
    drawing.savefig(file, dpi=120)


def _legend(runs: Sequence[tuple[Report, Run]]) -> list[Line2D]:
    adapters = dict.fromkeys(r.adapter for _, r in runs)
    colors = [Line2D([], [], color=_COLORS[adapter], lw=4, label=TITLES[adapter]) for adapter in adapters]
    styles = {"-": "our optimizer", ":": "the framework's own"}
    return colors + [Line2D([], [], color="black", ls=style, label=label) for style, label in styles.items()]


def _in(run: Run, text: bool, optimizer: str) -> bool:
    return (run.adapter == "hf") == text and run.optimizer == optimizer


_COLORS: Final = {"torch": "tab:red", "tf": "tab:orange", "jax": "tab:blue", "sklearn": "tab:green", "hf": "tab:purple"}


def _losses(axes: Axes, runs: Sequence[tuple[Report, Run]]) -> None:
    """Equal curves lie on top of each other, so the first is the widest and each next one thinner."""
    width = 9.0
    for _, run in runs:
        if run.kind == "own":
            axes.plot(_smooth(run.losses), color="black", lw=1, ls=":", zorder=3)
        elif run.kind == "ours":
            axes.plot(_smooth(run.losses), color=_COLORS[run.adapter], lw=width, solid_capstyle="butt")
            width = max(1.2, width - 2.4)
    axes.set_xlabel("step")


def _gaps(axes: Axes, runs: Sequence[tuple[Report, Run]]) -> None:
    """Zero has no logarithm: equal bits are drawn at the bottom."""
    floor = 1e-10
    for _, run in runs:
        if run.gap is not None:
            x = np.linspace(0, len(run.losses), len(run.gap) + 1)[1:]
            line = ":" if run.kind == "own" else "-"
            axes.plot(x, np.maximum(run.gap, floor), color=_COLORS[run.adapter], lw=1.8, ls=line)
    axes.axhline(1e-6, color="0.6", lw=0.8)
    axes.set(yscale="log", ylim=(floor / 2, 1.5), xlabel="step")
    axes.set_yticks([floor, 1e-8, 1e-6, 1e-4, 1e-2, 1], ["equal", *(f"$10^{{{k}}}$" for k in (-8, -6, -4, -2, 0))])


def _smooth(losses: Sequence[float], span: int = 15) -> np.ndarray:
    if len(losses) < 2 * span:
        return np.asarray(losses)
    return np.convolve(losses, np.ones(span) / span, mode="valid")
