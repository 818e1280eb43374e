"""The imports of the package form no circle and never run upward, and its values have types."""

import ast

import pytest

from tests.boundaries.imports import (
    LAZY,
    PACKAGE,
    any_lines,
    circles,
    graph,
    init_code,
    modules,
    needless,
    upward,
    without,
)
from tests.boundaries.support import imports, python_files

#: Lines of the package that say `Any`. A ratchet: lower it with each line that goes; 150 is the aim.
ANY_LINES = 68

EDGES = graph()


def test_imports_form_no_circle() -> None:
    assert circles(without(EDGES, LAZY)) == []


def test_no_file_imports_a_file_of_a_higher_layer() -> None:
    assert upward(without(EDGES, LAZY)) == []


def test_every_excused_import_is_still_needed() -> None:
    assert needless(EDGES) == []


@pytest.mark.parametrize(("here", "to"), LAZY, ids=lambda file: file)
def test_an_excused_import_does_not_run_when_the_file_is_imported(here: str, to: str) -> None:
    """It stands inside a function or under `TYPE_CHECKING`, so that no order of imports can fail."""
    text = (PACKAGE / here).read_text()
    at_once = {node.lineno for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)}
    target = next(name for name, file in modules().items() if file == to)
    assert [
        name for line, name in imports(PACKAGE / here) if line in at_once and f"{name}.".startswith(f"{target}.")
    ] == []


def test_no_more_lines_say_any() -> None:
    assert sum(any_lines(file) for file in python_files(PACKAGE)) <= ANY_LINES


def test_an_init_holds_re_exports_alone() -> None:
    """And, in a package for users, what loads a name when it is first asked for."""
    inits = [file for file in python_files(PACKAGE) if file.name == "__init__.py"]
    assert {str(file): init_code(file) for file in inits if init_code(file)} == {}
