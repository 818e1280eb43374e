"""The page on what changes in torch is what both classes answer: no difference is left out, and none has vanished."""

from __future__ import annotations

import re

import pytest

from scirs2_adapters.core.hyperparameters import MODES
from tests.boundaries.support import ROOT

from .torch_differences import NAMES, PROBES, answers, arguments, differences
from .torch_support import ours, theirs

pytestmark = pytest.mark.usefixtures("one_thread")
PAGE = (ROOT / "docs/what-changes-in-torch.md").read_text()
#: What every class takes here by name.
EVERYWHERE = {"kernel", "match", "max_grad_norm", "offload", "rounding", "skip_nonfinite", "state_dtype"} | set(MODES)


def table(name: str) -> list[list[str]]:
    """The rows of a table of the page, without its head."""
    text = PAGE.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()[2:]]


def words(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def classes(cell: str) -> list[str]:
    """The classes that a cell names: some, all, or all but some."""
    named = re.findall(r"\w+", cell)
    if named[0] != "all":
        return sorted(named)
    return [name for name in NAMES if name not in named[2:]]


ROWS = {row[0].partition(": ")[0]: row for row in table("differences")}


@pytest.mark.parametrize("title", PROBES)
def test_what_the_page_says_is_what_differs(title: str) -> None:
    differing = {name: differences(title, name) for name in NAMES}
    where = [name for name in NAMES if differing[name]]
    shown = {name: answers(title, name) for name in where}
    row = ROWS.get(title)
    assert where == (classes(row[1]) if row else []), shown
    details = set().union(*differing.values()) - {title}
    assert details == (words(row[0].partition(": ")[2]) if row else set()), shown


def test_the_page_has_no_row_that_nobody_asks_for() -> None:
    assert ROWS.keys() <= PROBES.keys()
    assert len(ROWS) == len(table("differences"))


def test_arguments_are_those_of_the_page() -> None:
    differing = {}
    for name in NAMES:
        mine, other = set(arguments(ours(name))), set(arguments(theirs(name)))
        if mine != other:
            assert mine - other >= EVERYWHERE
            differing[name] = (mine - other - EVERYWHERE, other - mine)
    assert differing == {row[0]: (words(row[1]), words(row[2])) for row in table("arguments")}
    assert all(f"`{word}`" in PAGE.partition("## Arguments")[2].partition("<!--")[0] for word in EVERYWHERE)


@pytest.mark.parametrize("row", table("differences") + table("numbers"), ids=lambda row: row[0][:60])
def test_every_row_names_a_test_that_there_is(row: list[str]) -> None:
    (named,) = words(row[-1])
    file, _, test = named.partition("::")
    assert f"def {test}(" in (ROOT / "tests/adapters" / file).read_text()
