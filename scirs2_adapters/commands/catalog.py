"""The optimizers as rows of a table, read from their rules: nothing about them is written down a second time."""

from __future__ import annotations

from dataclasses import dataclass

from scirs2_adapters import get, names
from scirs2_adapters.core import Rule, with_value
from scirs2_adapters.core.slots import EVERY, Extent, Slot

from . import facts

#: What changes with time in a formula: nothing, whether the step is the first one, or the number of the step.
COUNTS = {"step": "steps", "first": "the first step", "none": "-"}


@dataclass(frozen=True)
class Row:
    """One optimizer. Slots in parentheses exist with some settings only; `memory` is of an n x m matrix."""

    name: str
    slots: str
    memory: str
    counts: str
    paper: str


def rows() -> list[Row]:
    """All optimizers, by name, but those that step by a closure: what these remember is no slots."""
    return [_row(get(name)) for name in sorted((*names(), *with_value()))]


def _row(rule: type[Rule]) -> Row:
    slots = " ".join(facts.slot_names(rule))
    return Row(rule.name, slots or "-", _memory(rule), COUNTS[rule().time_dependence], facts.origin(rule)[0] or "-")


def _memory(rule: type[Rule]) -> str:
    """How many numbers the slots of an n x m matrix hold; r is a rank."""
    size_of = {Extent.FULL: "nm", Extent.ROW: "n", Extent.COLUMN: "m", Extent.TENSOR: "1", Extent.BATCH: "1"}
    sides = {-2: "n", -1: "m"}

    def size(s: Slot) -> str:
        if s.side == EVERY:
            return "n + m"
        if s.side:
            return sides[s.side] + ("r" if s.share else {0: sides[s.side], 1: ""}.get(s.rank, "r"))
        return size_of[s.extent]

    sizes = [size(s) for s in rule().slots(facts.MATRIX) if s.extent is not Extent.MODEL]
    terms = [f"{sizes.count(size)} {size}" if sizes.count(size) > 1 else size for size in dict.fromkeys(sizes)]
    return " + ".join(term.removesuffix(" 1") for term in terms) or "0"
