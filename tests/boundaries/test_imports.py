"""The imports of the package form no circle and never run upward, and its values have types."""

from tests.boundaries.imports import PACKAGE, any_lines, circles, graph, init_code, upward
from tests.boundaries.support import python_files

#: Lines of the package that say `Any`. A ratchet: lower it with each line that goes.
ANY_LINES = 61

EDGES = graph()


def test_imports_form_no_circle() -> None:
    assert circles(EDGES) == []


def test_no_file_imports_a_file_of_a_higher_layer() -> None:
    assert upward(EDGES) == []


def test_no_more_lines_say_any() -> None:
    assert sum(any_lines(file) for file in python_files(PACKAGE)) <= ANY_LINES


def test_an_init_holds_re_exports_alone() -> None:
    """And, in a package for users, what loads a name when it is first asked for."""
    inits = [file for file in python_files(PACKAGE) if file.name == "__init__.py"]
    assert {str(file): init_code(file) for file in inits if init_code(file)} == {}
