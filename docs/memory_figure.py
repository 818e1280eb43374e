"""Draws the figure of memory.md: `PYTHONPATH=. python docs/memory_figure.py` writes docs/memory.png.

Ours are weighed by `memory_facts.py`; others were measured by `python -m benchmarks.state_bytes`. As the other figures
it is not part of `make gen`, because matplotlib's output differs between versions.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from memory_facts import FORMATS, weighed

mpl.use("Agg")
import matplotlib.pyplot as plt

Parts = dict[str, float]
#: Bytes of state a float32 and a bfloat16 parameter, on the CPU: torch 2.13.0, bitsandbytes 0.50.2.
MEASURED = {"torch.optim.AdamW": (8.0, 4.0), "bitsandbytes AdamW8bit": (2.037, 2.037)}
COLORS = {"parameter": "#4a5d75", "correction": "#8fa3ba", "state": "#e08a3c", "gradient": "#d9d9d9"}
WORDS = {"parameter": "parameters", "correction": "rounding errors", "gradient": "gradients, most at a time"}
INK, OTHERS = "#1c2430", "#7a7a7a"
INT8, RELEASED = 'state_dtype="int8"', "the same, release_gradients()"


def bars() -> dict[str, list[tuple[str, Parts]]]:
    """The bars by the dtype of the model: what each is called, and bytes a parameter by what they are for."""
    ours = {key: weighed("AdamW", *form) for key, form in FORMATS.items()}
    whole, half = ({"parameter": n, "correction": 0.0, "gradient": n} for n in (4.0, 2.0))
    return {
        "float32 model": [
            *((name, whole | {"state": state}) for name, (state, _) in MEASURED.items()),
            ("AdamW()", ours["float32"]),
            ('AdamW(state_dtype="bfloat16")', ours["bfloat16 state"]),
            (f"AdamW({INT8})", ours["int8 state"]),
            (RELEASED, weighed("AdamW", FORMATS["int8 state"][0], FORMATS["int8 state"][1], released=True)),
        ],
        "bfloat16 model": [
            *((f"{name}, rounds to nearest", half | {"state": state}) for name, (_, state) in MEASURED.items()),
            (f'AdamW({INT8}, rounding="stochastic")', ours["stochastic"]),
            (f'AdamW({INT8}, rounding="compensated")', ours["bfloat16 model"]),
            (RELEASED, ours["released"]),
        ],
    }


def draw() -> plt.Figure:
    """The figure."""
    figure, ax = plt.subplots(figsize=(10.4, 5.4), layout="constrained")
    y, labels = 0.0, dict[float, str]()
    for head, members in bars().items():
        ax.text(0, y, head, weight="bold", fontsize=10, color=INK, va="center")
        for label, parts in members:
            y += 1
            labels[y] = label
            bar(ax, y, parts)
        y += 1.5
    ax.set_yticks(list(labels), list(labels.values()), fontsize=9)
    for tick in ax.get_yticklabels():
        tick.set_color(OTHERS if any(name in tick.get_text() for name in MEASURED) else INK)
    ax.set(ylim=(y - 0.9, -0.6), xlim=(0, 17.4), xlabel="bytes a parameter, for the tensors of GPT-2 (124 million)")
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    for name, color in COLORS.items():
        ax.barh(0, 0, color=color, label=WORDS.get(name, name))
    ax.legend(loc="lower right", frameon=False, fontsize=9)
    return figure


def bar(ax: plt.Axes, y: float, parts: Parts) -> None:
    """One bar of parts, with the bytes of each that there is, and their sum behind it."""
    left = 0.0
    for name, color in COLORS.items():
        width = parts[name]
        ax.barh(y, width, left=left, height=0.72, color=color, edgecolor="white", linewidth=0.8)
        if width > 0.1:  # seeds are not seen
            at, ink = (left + width / 2, y), "white" if name == "parameter" else INK
            ax.text(*at, f"{width:.1f}".removesuffix(".0"), ha="center", va="center", fontsize=8, color=ink)
        left += width
    ax.text(left + 0.12, y, f"{left:.1f}", va="center", fontsize=9.5, weight="bold", color=INK)


if __name__ == "__main__":
    draw().savefig(Path(__file__).with_name("memory.png"), dpi=130)
