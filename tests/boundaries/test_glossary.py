"""The glossary names files that exist and what they define."""

import ast
import re

import pytest

from tests.boundaries.support import PACKAGE, ROOT

PAGE = ROOT / "docs/glossary.md"
#: A row of a table: the word, its meaning, the file and, behind a colon, what the file defines.
ROWS = re.findall(r"^\| (.+?) \| (.+) \| `([\w/]+\.py)`(?:: `(\w+)`)? \|$", PAGE.read_text(), re.MULTILINE)


def definitions(file: str) -> set[str]:
    """Classes and functions at the top of a file."""
    tree = ast.parse((PACKAGE / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


@pytest.mark.parametrize(("word", "file", "name"), [(word, file, name) for word, _, file, name in ROWS])
def test_a_word_is_where_the_glossary_says(word: str, file: str, name: str) -> None:
    del word
    assert (PACKAGE / file).is_file()
    assert not name or name in definitions(file)


def test_every_line_of_the_tables_is_read() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    heads = [line for line in lines if line.startswith(("| word |", "| ---"))]
    assert len(lines) - len(heads) == len(ROWS)


def test_no_word_has_two_meanings() -> None:
    words = [word for word, *_ in ROWS]
    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/how-it-works.md"])
def test_a_reader_finds_the_glossary(page: str) -> None:
    assert "glossary.md" in (ROOT / page).read_text()
