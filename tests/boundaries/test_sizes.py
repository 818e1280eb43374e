"""What one can read in one sitting: files of 300 lines, functions of 30, each half of the core.

A ratchet: an exception carries its own limit and its reason, and falls away as soon as it is not needed.
"""

import ast
import io
import tokenize
from pathlib import Path

import pytest

from tests.boundaries.support import PACKAGE, ROOT, python_files, relative

LONGEST_FILE, LONGEST_FUNCTION = 300, 30

#: Code lines of the two halves of the core, which are read apart: what an optimizer is, and how one is run. 1,500 were
#: meant for both together; the second half holds a compiler's back end, a driver and a foreign-call handler in place of
#: the threading layer, the cache and the C++ that other projects bring in, and every adapter gets shorter by them.
#: Which rule steps a parameter, and as what matrix, is said in the core once for all adapters. A tenth of the second
#: half stands at the door of `HostOptimizer`: whose memory a kernel may write, and what is loaded into it. Optimizers
#: that evaluate the model are counted with what they share: a line search is not a formula.
LARGEST = {"core": 1280, "core/cpu": 1650, "core/closures": 440, "core/synonyms": 330}

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


@pytest.mark.parametrize("half", LARGEST)
def test_the_core_stays_small(half: str) -> None:
    # The optimizers are not counted: their number grows with every one that is added, the core must not.
    assert sum(len(code_lines(file.read_text())) for file in (PACKAGE / half).glob("*.py")) <= LARGEST[half]


def test_every_exception_is_still_needed() -> None:
    files = {relative(file): len(file.read_text().splitlines()) for file in FILES}
    functions = {name: size for file in FILES for name, size in function_sizes(file).items()}
    needed = {name for name, size in files.items() if size > LONGEST_FILE}
    needed |= {name for name, size in functions.items() if size > LONGEST_FUNCTION}
    assert sorted(EXCEPTIONS.keys() - needed) == []
