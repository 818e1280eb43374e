"""The optimizers as rows of a table, read from their rules: nothing about them is written down a second time."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from scirs2_adapters import get, names
from scirs2_adapters.core.slots import EVERY, Extent, Leaf, Slot

#: Longer than the ranks that rules project onto.
_MATRIX = Leaf((2000, 3000), "float32", "weight")


@dataclass(frozen=True)
class Row:
    """One optimizer. Slots in parentheses exist with some settings only; `memory` is of an n x m matrix."""

    name: str
    slots: str
    memory: str
    counts: str
    paper: str


def rows() -> list[Row]:
    """All optimizers, by name."""
    return [_row(name) for name in names()]


def _row(name: str) -> Row:
    cls = get(name)
    rule = cls()
    present = rule.slots(_MATRIX)
    names_present = {s.name for s in present}
    slots = " ".join(s.name if s.name in names_present else f"({s.name})" for s in rule.all_slots())
    text = inspect.getdoc(cls) or ""
    paper = re.search(r"^Paper: (.+?)(?:^Differs|\Z)", text, re.MULTILINE | re.DOTALL)
    counts = {"step": "steps", "first": "the first step", "none": "-"}[rule.time_dependence]
    source = " ".join(paper[1].split()).rstrip(".") if paper else "-"
    return Row(name, slots or "-", _memory(present), counts, source)


def _memory(slots: tuple[Slot, ...]) -> str:
    """How many numbers the slots of an n x m matrix hold; r is a rank."""
    size_of = {Extent.FULL: "nm", Extent.ROW: "n", Extent.COLUMN: "m", Extent.TENSOR: "1", Extent.BATCH: "1"}
    sides = {-2: "n", -1: "m"}

    def size(s: Slot) -> str:
        if s.side == EVERY:
            return "n + m"
        if s.side:
            return sides[s.side] + ("r" if s.share else {0: sides[s.side], 1: ""}.get(s.rank, "r"))
        return size_of[s.extent]

    sizes = [size(s) for s in slots if s.extent is not Extent.MODEL]
    terms = [f"{sizes.count(size)} {size}" if sizes.count(size) > 1 else size for size in dict.fromkeys(sizes)]
    return " + ".join(terms) or "0"
