"""The table of measured cells as Markdown."""

from __future__ import annotations

import datetime
import itertools
import platform
import re
from importlib.metadata import version

import scirs2_adapters
from tests.boundaries.support import ADAPTERS, DISTRIBUTIONS, ROOT, frameworks

from . import drift as long
from .cells import FLIPPED, GAPS, TOLERANCES, Cell
from .entries import Result, letter
from .problem import STEPS

HEAD = """# Conformance

Every optimizer is one formula. The tables say how close each adapter stays to it, on both paths of the
[step](how-it-works.md#two-paths): `host` is the compiled kernel, `traced` the framework's operations. The reference is
the formula in plain numpy and float64, with parameters and memory rounded to their dtype after each step. The tests
hold the formulas themselves to slow transcriptions of the papers.

The parameters are matrices, a stack of matrices, a vector, a number, zeros and arrays that hold nothing; some get their
first gradient in the third step. The options are the defaults, with a learning rate that shows; in float32 also a
second set, in which all that changes the formula is the other way round. Bold is a failure. A letter is a cell that
cannot be, and trying it raises an error:
"""

TRAJECTORY = f"""The largest error of any parameter or slot over {STEPS} steps, relative to its largest value. Allowed
is {{allowed}}"""
MAGNIFIED = ", or 4 times what a last bit lost in each step leads to, where a formula magnifies it."
ROUNDED = ", and of all numbers at most {part:.0%} may differ by a rounding."
DRIFT = f"""The largest distance from the float64 transcription of the paper over {long.STEPS:,} steps, relative to the
length of the path. Allowed is {{allowed}}, or {long.TIMES} times what storage alone costs, which is the last column."""

#: What storage alone costs, by optimizer and dtype; empty where it is not measured.
Floors = dict[tuple[str, str], str]


def reasons() -> list[str]:
    """What the letters stand for."""
    return [f"- {letter(gap)}: {gap.reason}." for gap in GAPS]


def origin() -> str:
    """Of which version and day the numbers are, and with which libraries."""
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", (ROOT / "CHANGELOG.md").read_text(), re.M | re.S)
    later = " and the changes after it" if unreleased and unreleased[1].strip() else ""
    names = dict.fromkeys(itertools.chain(["numpy"], *map(frameworks, ADAPTERS)))
    versions = {DISTRIBUTIONS.get(name, name): version(DISTRIBUTIONS.get(name, name)) for name in names}
    libraries = ", ".join(f"{name} {v}" for name, v in versions.items())
    return (
        "Made by `python -m tests.conformance --write docs/conformance.md`: "
        f"scirs2 {scirs2_adapters.__version__}{later}, {datetime.date.today()}.\n\n"
        f"Python {platform.python_version()}, {libraries}, on {platform.machine()} and {platform.system()}."
    )


def allowed(dtype: str, *, drift: bool) -> str:
    """What is measured, and the tolerance."""
    if drift:
        return DRIFT.format(allowed=f"{long.BOUND[dtype]:.1e}")
    more = ROUNDED.format(part=FLIPPED[dtype]) if dtype in FLIPPED else MAGNIFIED
    return TRAJECTORY.format(allowed=f"{TOLERANCES[dtype]:.1e}") + more


def table(dtype: str, said: str, entries: dict[Cell, Result], floors: Floors) -> list[str]:
    """The table of one dtype: a row for each optimizer, a column for each adapter and path."""
    body: dict[str, list[str]] = {}
    for cell, (text, _) in entries.items():
        if cell.dtype == dtype:
            body.setdefault(cell.rule, []).append(text)
    for rule, row in body.items():
        row += [floors[rule, dtype]] if floors else []
    columns = dict.fromkeys(f"{c.adapter} {c.path}" for c in entries)
    rows = [["", *columns, *(["floor"] if floors else [])]]
    rows += [["---"] * len(rows[0]), *([rule, *row] for rule, row in body.items())]
    return [f"## {dtype}", "", said, "", *(f"| {' | '.join(row)} |" for row in rows), ""]


def page(said: dict[str, str], entries: dict[Cell, Result], floors: Floors) -> str:
    """The whole page: what is said of each dtype, the entries, and what storage alone costs where that is measured."""
    tables = [line for dtype, words in said.items() for line in table(dtype, words, entries, floors)]
    return "\n".join([HEAD, *reasons(), "", origin(), "", *tables]).rstrip() + "\n"
