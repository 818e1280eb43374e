"""Draws the figure of how-it-works.md: `python docs/figures.py` writes docs/how-it-works.svg.

The text of the boxes is read from the rule, so that the figure shows the code as it is. The figure is not part of
`make gen`, because matplotlib's output differs between versions.
"""

import inspect
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from scirs2_adapters import get
from scirs2_adapters.core.program.recorded import record
from scirs2_adapters.core.slots import Leaf

INK, RULE, CORE, HOST, TRACED, ADAPTER = "#1c2430", "#fdf3d8", "#e6edf7", "#dff0e3", "#f3e4f1", "#ffffff"
WIDTH = 64  # characters in the widest box
SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}


def box(ax: plt.Axes, at: tuple[float, float], size: tuple[float, float], head: str, text: str, color: str) -> None:
    """A box with a bold head and lines of text; `at` is its lower left corner."""
    style = {"boxstyle": "round,pad=0,rounding_size=0.6", "linewidth": 0.9}
    ax.add_patch(mpl.patches.FancyBboxPatch(at, *size, facecolor=color, edgecolor=INK, **style))
    x, y = at[0] + 1.2, at[1] + size[1] - 1.3
    ax.text(x, y, head, va="top", weight="bold", fontsize=9.5, color=INK)
    ax.text(x, y - 3.0, text, va="top", fontsize=7.5, color=INK, family="monospace", linespacing=1.42)


def arrow(ax: plt.Axes, start: tuple[float, float], end: tuple[float, float], label: str = "") -> None:
    """An arrow, with a label beside its middle."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.1})
    if label:
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        ax.text(middle[0], middle[1] + 0.7, label, ha="center", va="bottom", fontsize=7.4, style="italic", color=INK)


def folded(line: str) -> str:
    """A line too long for its box, in two, broken after a comma."""
    at = line.rfind(", ", 0, WIDTH) + 1
    return line if len(line) <= WIDTH or not at else f"{line[:at]}\n{' ' * 11}{line[at:]}"


def declaration(name: str) -> str:
    """The source of a rule, without its docstring and its rows of `matches`."""
    source = inspect.getsource(get(name))
    head, body = source.splitlines()[0], source.rpartition('"""')[2].strip("\n")
    lines = [folded(line) for line in body.splitlines() if "matches" not in line]
    return "\n".join([head, *lines])


def program(name: str) -> str:
    """A rule's program, one operation a line."""
    recorded = record(get(name)(), Leaf((2, 2)))
    names = {i: n.name for i, n in enumerate(recorded.nodes) if n.name}
    lines = []
    for i, node in enumerate(recorded.nodes):
        args = [names.get(a, f"x{a}") for a in node.args]
        if node.op in SIGNS:
            lines.append(f"x{i} = {args[0]} {SIGNS[node.op]} {args[1]}")
        elif node.args:
            lines.append(f"x{i} = {node.op}({', '.join(args)})")
    outputs = [f"{k} <- x{i}" for k, i in recorded.outputs.items()]
    return "\n".join([*lines, "", *outputs])


def draw() -> plt.Figure:
    """The figure."""
    figure, ax = plt.subplots(figsize=(12.4, 6.3))
    ax.set(xlim=(0, 124), ylim=(0, 63))
    ax.axis("off")
    box(ax, (1, 25), (51, 37), "one file: core/optimizers/lion.py", declaration("lion"), RULE)
    box(ax, (62, 17), (22, 45), "one program", program("lion"), CORE)
    box(ax, (1, 2), (51, 19), "derived from it", DERIVED, ADAPTER)
    box(ax, (94, 39), (29, 23), "host kernel", HOST_TEXT, HOST)
    box(ax, (94, 12), (29, 23), "traced", TRACED_TEXT, TRACED)
    for k, adapter in enumerate(("torch", "tf", "jax", "hf", "sklearn")):
        box(ax, (62 + 12.4 * k, 2), (11.4, 4.2), adapter, "", ADAPTER)
    arrow(ax, (52.4, 50), (61.6, 50), "record")
    arrow(ax, (84.4, 50), (93.6, 50), "emit")
    arrow(ax, (84.4, 24), (93.6, 24), "interpret")
    arrow(ax, (26, 24.6), (26, 21.4))
    arrow(ax, (52.4, 4.1), (61.6, 4.1), "class, state")
    arrow(ax, (108, 11.6), (108, 6.6))
    ax.text(107, 9.1, "executors take the step", va="center", ha="right", fontsize=7.4, style="italic", color=INK)
    return figure


DERIVED = """constructor, checks, signature, docstring
slots:     exp_avg          from update's signature
arguments: betas=(.9, .99)  PyTorch
           beta_1, beta_2   Keras
           b1, b2           optax
table in the docs, .pyi stubs, error messages"""

HOST_TEXT = """the CPU kernel: the program cut
into passes at its sums, each
compiled once by numba

one call for all tensors,
in place: (tensor, chunk) work
items, short-lived threads"""

TRACED_TEXT = """the framework's own functions:
torch / jax.numpy / keras.ops

accelerators, jit, autodiff,
vmap, sharding, XLA;
with numpy: the reference"""

if __name__ == "__main__":
    mpl.rcParams["svg.hashsalt"] = "scirs2"
    draw().savefig(Path(__file__).with_name("how-it-works.svg"), bbox_inches="tight", metadata={"Date": None})
