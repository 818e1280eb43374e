"""Draws the figure of catalogue.md: `PYTHONPATH=. python docs/catalogue_figure.py` writes docs/catalogue.png.

Every optimizer descends two functions of two numbers, a matrix of one row, in float64: Rosenbrock's valley and a turned
bowl that is 100 times steeper across than along. Its learning rate is that of `RATES`, times its own, after which the
function is least. As the other figures it is not part of `make gen`, which says whom the figure lacks: the file has the
names of the drawn.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from stubs import NAMES

mpl.use("Agg")
import matplotlib.pyplot as plt

from scirs2_adapters import get
from scirs2_adapters.core import HostOptimizer, evaluation_params

FIGURE = Path(__file__).with_name("catalogue.png")
Point = np.ndarray
Problem = tuple[Callable[[Point, Point], Point], Callable[[Point], Point], Point]
STEPS, COLUMNS = 150, 8
RATES = 10.0 ** np.arange(-4.0, 3.1, 0.5)
INK, PATH, END = "#1c2430", "#d6572b", "#1c2430"
TURN = np.array([[math.cos(0.6), -math.sin(0.6)], [math.sin(0.6), math.cos(0.6)]])
BOWL = TURN @ np.diag([1.0, 100.0]) @ TURN.T


def rosenbrock(x: Point, y: Point) -> Point:
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


def valley(p: Point) -> Point:
    x, y = p
    return np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])


def bowl(x: Point, y: Point) -> Point:
    return (BOWL[0, 0] * x * x + 2 * BOWL[0, 1] * x * y + BOWL[1, 1] * y * y) / 2


#: A function, its gradient, and where descent begins; the corner of what is shown and its size follow.
PROBLEMS: dict[str, tuple[Problem, tuple[float, float, float, float]]] = {
    "Rosenbrock": ((rosenbrock, valley, np.array([-1.2, 1.4])), (-1.7, 1.5, -0.7, 2.0)),
    "quadratic": ((bowl, lambda p: BOWL @ p, np.array([-1.2, 0.4])), (-1.6, 1.0, -1.1, 1.0)),
}


def walk(name: str, rate: float, problem: Problem) -> Point:
    """The points that are to be evaluated, of each step; where one is not finite it ends."""
    _, gradient, start = problem
    params = {"weight": start.reshape(1, 2).copy()}
    optimizer = HostOptimizer(get(name)(learning_rate=rate), params, kernel="traced")
    points = [start]
    for _ in range(STEPS):
        value, g = float(problem[0](*params["weight"].ravel())), gradient(params["weight"].ravel())
        if not np.abs(g).max() < 1e6:
            break
        optimizer.step({"weight": g.reshape(1, 2)}, value=value)
        points.append(evaluation_params(optimizer)["weight"].ravel())
    return np.array(points)


def best(name: str, problem: Problem) -> Point:
    """The walk that ends lowest."""
    default = get(name).fields_with()["learning_rate"].default
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        walks = [walk(name, default * times, problem) for times in RATES]
        ends = [float(problem[0](*points[-1])) if len(points) > STEPS else math.inf for points in walks]
    return walks[int(np.argmin(np.where(np.isfinite(ends), ends, math.inf)))]


def panel(ax: plt.Axes, name: str, key: str) -> None:
    """One walk over the level lines, and the value at its end."""
    problem, (left, right, low, high) = PROBLEMS[key]
    x, y = np.meshgrid(np.linspace(left, right, 60), np.linspace(low, high, 60))
    values = np.log10(problem[0](x, y) + 1e-2)
    ax.contour(x, y, values, levels=9, colors="#b8c2cf", linewidths=0.4)
    points = best(name, problem)
    ax.plot(*points.T, color=PATH, linewidth=0.8)
    ax.plot(*points[-1], "o", color=END, markersize=2)
    ax.set(xlim=(left, right), ylim=(low, high), xticks=(), yticks=())
    ax.spines[:].set_linewidth(0.3)
    last = float(problem[0](*points[-1]))
    shown = f"{last:.0e}" if last >= 1e-9 else "< 1e-9"
    ax.text(0.97, 0.03, shown, transform=ax.transAxes, ha="right", va="bottom", fontsize=5, color=INK)


def draw() -> plt.Figure:
    """A panel for each optimizer: Rosenbrock's function on the left, the quadratic one on the right."""
    rows = -(-len(NAMES) // COLUMNS)
    figure, axes = plt.subplots(rows, 2 * COLUMNS, figsize=(15.5, 1.12 * rows), squeeze=False)
    figure.subplots_adjust(0.003, 0.004, 0.997, 0.982, wspace=0.04, hspace=0.2)
    for ax in axes.ravel()[2 * len(NAMES) :]:
        ax.set_axis_off()
    for k, name in enumerate(NAMES):
        pair = axes.ravel()[2 * k : 2 * k + 2]
        for ax, key in zip(pair, PROBLEMS, strict=True):
            panel(ax, name, key)
        pair[0].set_title(get(name).__name__, fontsize=7, color=INK, loc="left", pad=2)
    return figure


def main() -> None:
    """Write it with few colors, a quarter of the bytes, and the names of the optimizers."""
    drawn, said = io.BytesIO(), PngInfo()
    said.add_text("optimizers", " ".join(NAMES))
    draw().savefig(drawn, dpi=90)
    few = Image.open(drawn).convert("RGB").quantize(64, kmeans=1)
    few.save(FIGURE, pnginfo=said, optimize=True)


if __name__ == "__main__":
    main()
