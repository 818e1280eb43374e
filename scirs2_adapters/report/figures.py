"""The figures of the report: bars, curves, small multiples and a ranking. No figure has more than four colors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

COLORS: Final = ("#d6572b", "#e9a07f", "#33475b", "#8fa3b5")
INK, PALE = "#1c2430", "#dfe5ec"
COLUMNS: Final = 9
SMALL: Final = 8
#: Bars whose lengths differ by more than this factor are drawn as dots.
WIDEST: Final = 50
#: Losses above this, four times that of a guess, are drawn at the edge.
EDGE: Final = 10.0


def bars(heads: Sequence[str], rows: Sequence[Sequence[str]], colors: Sequence[str] = ()) -> Figure:
    """A panel for each head, a bar for each row, with its number; rows begin with a name, and may have a color each."""
    drawing = Figure(figsize=(11, 0.9 + 0.36 * len(rows)), layout="constrained")
    axes = drawing.subplots(1, len(heads), sharey=True, squeeze=False)[0]
    for k, (ax, head) in enumerate(zip(axes, heads, strict=True), 1):
        texts = [row[k] for row in rows]
        _labeled(ax, [float(text.replace(",", "")) if text != "-" else 0.0 for text in texts], texts, colors)
        ax.set_title(head, fontsize=10, loc="left")
    _names(axes[0], [row[0] for row in rows])
    return drawing


def _labeled(ax: Axes, widths: Sequence[float], texts: Sequence[str], colors: Sequence[str] = ()) -> None:
    """Bars; where the longest would hide the others, dots on a logarithmic axis."""
    wide = 0 < WIDEST * min(widths) < max(widths)
    if wide:
        ax.scatter(widths, range(len(widths)), c=colors or COLORS[2])
        ax.set(xscale="log", xlim=(min(widths) / 1.5, 10 * max(widths)))
        ax.minorticks_off()
        ax.set_xlabel("logarithmic axis", fontsize=SMALL)
    else:
        ax.barh(range(len(widths)), widths, color=colors or COLORS[2], height=0.6)
        ax.set_xlim(0, 1.3 * max(widths) or 1)
    for i, (width, text) in enumerate(zip(widths, texts, strict=True)):
        ax.annotate(text, (width, i), (6, 0), textcoords="offset points", va="center", fontsize=9, color=INK)
    ax.set_xticks([])
    ax.spines[["top", "right", "bottom"]].set_visible(False)


def _names(ax: Axes, names: Sequence[str]) -> None:
    ax.set_yticks(range(len(names)), names, fontsize=9)
    ax.invert_yaxis()


def curves(times: Mapping[str, Mapping[int, float]]) -> Figure:
    """Seconds over sizes, both logarithmic."""
    drawing = Figure(figsize=(7.5, 4.6), layout="constrained")
    ax = drawing.subplots()
    for (name, column), color in zip(times.items(), COLORS, strict=False):
        ax.plot(list(column), [t * 1e3 for t in column.values()], "o-", color=color, label=name, lw=1.8, ms=4)
    ax.set(xscale="log", yscale="log", xlabel="parameters of the model", ylabel="time of a step, ms")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.grid(color=PALE, lw=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9)
    return drawing


def pairs(losses: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """A panel for each model: its loss under our optimizer, and on it, thin, under the framework's."""
    drawing = Figure(figsize=(2.2 * len(losses) + 0.8, 2.9), layout="constrained")
    axes = drawing.subplots(1, len(losses), squeeze=False)[0]
    for ax, (name, both) in zip(axes, losses.items(), strict=True):
        for curve, label, color, width in zip(both, ("ours", "the framework's"), COLORS[::2], (4.0, 1.0), strict=True):
            ax.plot(range(1, len(curve) + 1), curve, color=color, lw=width, label=label)
        ax.set_title(name, fontsize=10, loc="left")
        ax.set_ylim(bottom=0)
        ax.spines[["top", "right"]].set_visible(False)
    drawing.supxlabel("step", fontsize=10)
    axes[0].set_ylabel("loss of a batch")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=9, frameon=False)
    return drawing


def panels(losses: Mapping[str, Sequence[float]]) -> Figure:
    """A panel for each optimizer: its curve on a band between the tenth and the ninetieth of a hundred of all."""
    columns, smooth = min(COLUMNS, len(losses)), {name: _smooth(curve) for name, curve in losses.items()}
    rows = -(-len(losses) // columns)
    drawing = Figure(figsize=(1.35 * columns + 0.6, 1.15 * rows + 0.7), layout="constrained")
    axes = drawing.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    every = np.full((len(smooth), max(map(len, smooth.values()))), np.nan)
    for row, curve in zip(every, smooth.values(), strict=True):
        row[: len(curve)] = curve  # a run that diverges ends early
    low, middle, high = np.nanpercentile(every, [10, 50, 90], axis=0)
    x = np.arange(1, every.shape[1] + 1)
    for ax, name, curve in zip(axes.ravel(), smooth, every, strict=False):
        ax.fill_between(x, low, high, color=PALE, lw=0)
        ax.plot(x, middle, color=COLORS[3], lw=0.7)
        ax.plot(x, curve, color=COLORS[0], lw=1.2)
        ax.set_title(name, fontsize=_fitting(name), loc="left", pad=2)
        ax.tick_params(labelsize=6)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set(yscale="log", ylim=(0.7 * np.nanmin(every), 1.3 * np.nanpercentile(every, 99.5)))
    axes[0, 0].yaxis.set_major_formatter("{x:g}")
    for ax in axes.ravel()[len(losses) :]:
        ax.set_axis_off()
    drawing.supxlabel("step; pale: the middle 80 % of these optimizers, and their median", fontsize=9)
    drawing.supylabel("loss, smoothed", fontsize=9)
    return drawing


def _fitting(name: str) -> float:
    """The size of type in which a name is no wider than its panel."""
    return min(SMALL, 150 / len(name))


def _smooth(losses: Sequence[float], span: int = 9) -> np.ndarray:
    """Means of the last losses, of as many as there are; those that are not finite leave a gap."""
    finite = np.where(np.isfinite(losses), losses, np.nan)
    starts = np.maximum(0, np.arange(len(finite)) - span + 1)
    return np.array([finite[start : k + 1].mean() for k, start in enumerate(starts)])


def ranking(ends: Mapping[str, tuple[float, float]]) -> Figure:
    """Final loss and accuracy by optimizer, a dot each, in the order of the loss; arrows for losses that have grown."""
    drawing = Figure(figsize=(9, 1.1 + 0.155 * len(ends)), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    losses, accuracies = np.array(list(ends.values())).reshape(-1, 2).T
    rows, grown = np.arange(len(ends)), ~(losses < EDGE)
    left.plot(losses[~grown], rows[~grown], "o", color=COLORS[0], ms=4)
    left.plot(np.full(grown.sum(), EDGE), rows[grown], ">", color=COLORS[0], ms=5)
    right.plot(100 * accuracies, rows, "o", color=COLORS[2], ms=4)
    for ax in (left, right):
        ax.grid(color=PALE, lw=0.6)
        ax.tick_params(labelsize=SMALL)
        ax.spines[["top", "right"]].set_visible(False)
    more = f"; arrows: more than {EDGE:g}" if grown.any() else ""
    left.set(xscale="log", xlabel=f"loss on the training digits{more}")
    low, high = left.get_xlim()
    left.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_formatter(NullFormatter())
    right.set(xlabel="accuracy on held-out digits, %")
    left.set_yticks(range(len(ends)), list(ends), fontsize=7)
    left.set_ylim(len(ends) - 0.4, -0.6)
    return drawing


def breakdown(
    parts: Mapping[str, Mapping[str, float]], growths: Mapping[str, float], losses: Mapping[str, Sequence[float]]
) -> Figure:
    """The parts of a step as stacked bars, the growth of memory, and the losses; equal curves lie on each other."""
    drawing = Figure(figsize=(11, 5.4), layout="constrained")
    top, bottom = drawing.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.3))[:, 0]
    left, right = top.subplots(1, 2, sharey=True, width_ratios=(1.8, 1))
    starts = np.zeros(len(parts))
    for name, color in zip(next(iter(parts.values())), (PALE, COLORS[3], COLORS[0], INK), strict=True):
        widths = np.array([one[name] for one in parts.values()])
        left.barh(range(len(parts)), widths, left=starts, color=color, height=0.6, label=name)
        starts += widths
    left.set_xlabel("ms of a training step")
    left.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=9, frameon=False)
    left.spines[["top", "right"]].set_visible(False)
    _labeled(right, list(growths.values()), [f"{growth:.0f}" for growth in growths.values()])
    right.set_title("growth of memory, MiB", fontsize=10, loc="left")
    _names(left, list(parts))
    ax = bottom.subplots()
    colors = COLORS if len(losses) > 2 else COLORS[::2]
    for (name, curve), color, width in zip(losses.items(), colors, np.linspace(6, 1, len(losses)), strict=False):
        ax.plot(range(1, len(curve) + 1), curve, color=color, lw=width, label=name)
    ax.set_title("loss of a batch", fontsize=10, loc="left")
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=9, frameon=False)
    return drawing
