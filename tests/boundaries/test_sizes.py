"""Limits on size: files of 300 lines, functions of 30 code lines, and each folder of the core.

An exception has a limit of its own and a reason. A test fails when an exception is no longer needed.
"""

import ast
import io
import tokenize
from pathlib import Path

import pytest

from tests.boundaries.support import PACKAGE, ROOT, python_files, relative

LONGEST_FILE, LONGEST_FUNCTION = 300, 30

#: Code lines of the folders of the core. The limits are what the folders have: there is no room to grow.
#: The package `core` itself holds what an optimizer is, how it is declared and documented, and the numpy optimizer.
#: `core/cpu` holds a compiler's back end, a loader of object code, a driver, the handlers of foreign calls for XLA and
#: TensorFlow, and the loop that makes numbers by chance. Other projects have a threading layer, a cache and C++ in
#: their place, and every adapter is shorter for it.
#: `core/closures` holds line searches. They are algorithms rather than formulas, and so are counted apart.
#: `core/portable` holds a file format, what is checked of a file, the conversions between frameworks (parameters that
#: are one in one of them and several in another among these, and where schedules began), and recordings of runs.
#: `core/monitor` holds the record of a step and who takes it.
#: `core/synonyms` holds the words of other libraries. Most of its lines are data.
#: The optimizers, in `core/optimizers` and `core/values`, have no limit, because each new one adds a file.
LARGEST = {
    "core": 3231,
    "core/program": 720,
    "core/step": 383,
    "core/cpu": 2164,
    "core/closures": 422,
    "core/portable": 1198,
    "core/monitor": 216,
    "core/synonyms": 219,
}

#: file, or file::function -> (limit, reason).
EXCEPTIONS: dict[str, tuple[int, str]] = {}

FILES = python_files(*(ROOT / name for name in ("scirs2_adapters", "tests", "docs", "examples", "benchmarks")))
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(text: str) -> set[int]:
    """Numbers of the lines that hold code: neither blank, nor comment, nor inside a docstring."""
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in silent]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    return lines - {line for node in ast.walk(ast.parse(text)) for line in docstring_lines(node)}


def docstring_lines(node: ast.AST) -> range:
    if isinstance(node, FUNCTION | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
        first = node.body[0]
        return range(first.lineno, (first.end_lineno or first.lineno) + 1)
    return range(0)


def function_sizes(file: Path) -> dict[str, int]:
    """Code lines of each function, its signature included, functions inside it too: they are read with it."""
    text = file.read_text()
    code = code_lines(text)
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, FUNCTION)]
    sizes: dict[str, int] = {}
    for node in functions:
        span = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        name = f"{relative(file)}::{node.name}"
        sizes[name] = max(sizes.get(name, 0), len(code.intersection(span)))
    return sizes


def over(sizes: dict[str, int], limit: int) -> dict[str, int]:
    """Whatever is above the limit, or above its own limit where it has one."""
    return {name: size for name, size in sizes.items() if size > EXCEPTIONS.get(name, (limit, ""))[0]}


def test_no_file_is_too_long() -> None:
    assert over({relative(file): len(file.read_text().splitlines()) for file in FILES}, LONGEST_FILE) == {}


def test_no_function_is_too_long() -> None:
    sizes = {name: size for file in FILES for name, size in function_sizes(file).items()}
    assert over(sizes, LONGEST_FUNCTION) == {}


@pytest.mark.parametrize("folder", LARGEST)
def test_the_core_stays_small(folder: str) -> None:
    assert sum(len(code_lines(file.read_text())) for file in (PACKAGE / folder).glob("*.py")) <= LARGEST[folder]


def test_every_exception_is_still_needed() -> None:
    files = {relative(file): len(file.read_text().splitlines()) for file in FILES}
    functions = {name: size for file in FILES for name, size in function_sizes(file).items()}
    needed = {name for name, size in files.items() if size > LONGEST_FILE}
    needed |= {name for name, size in functions.items() if size > LONGEST_FUNCTION}
    assert sorted(EXCEPTIONS.keys() - needed) == []
