"""Identifiers say what they hold: none of them is a word that fits any value."""

import ast
from collections.abc import Iterator, Set

from tests.boundaries.support import PACKAGE, ROOT, python_files, relative
from tests.boundaries.test_docs import PAGES, blocks

#: Words that say neither the type nor the role of a value, in any capitals and with any underscores around them, and
#: that are no names anywhere. What another package calls so, as `hypothesis.given`, is used and not defined here.
EVERYWHERE = {"found", "given", "own"}
#: Those that are no names in the package.
FILLERS = EVERYWHERE | {"got", "it", "made", "stuff", "thing", "things", "what"}

FOLDERS = [ROOT / name for name in ("benchmarks", "docs", "examples", "tests")]

#: Files that have some of these words all the same: attributes of public classes.
EXCEPTIONS = {
    "drift/compare.py": {"what"},  # of the public `Drift`
}

ADVICE = "Give it the name of what it holds, by type or role: `slots`, `gradients`, `misfits`, `parsed`."

#: A definition of each kind that has a name.
EVERY_KIND = """
import numpy as found

class Given:
    _own: int = 0

    def made(self, thing, /, *things, got_=None, **stuff):
        self.given = (found_ := thing)
        for _got, own in things:
            pass
        try:
            with open(thing) as made_:
                [_thing for _thing in things]
        except OSError as _found:
            pass
        match thing:
            case [*_things]:
                pass
            case {"a": 1, **_stuff}:
                pass
            case _made:
                pass
        return lambda _given: thing.own(got=1)
"""


def identifiers(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of each function, class, parameter, variable, attribute and alias that a source text defines."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.alias(asname=str(name)) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield node.lineno, name


def fillers(text: str, words: Set[str] = FILLERS) -> list[tuple[int, str]]:
    return [(line, name) for line, name in identifiers(text) if name.strip("_").lower() in words]


def test_no_identifier_is_a_filler() -> None:
    wrong = []
    for file in python_files(PACKAGE):
        place = file.relative_to(PACKAGE).as_posix()
        for line, name in fillers(file.read_text()):
            if name.strip("_").lower() not in EXCEPTIONS.get(place, ()):
                wrong.append(f"scirs2_adapters/{place}:{line}: `{name}` fits any value. {ADVICE}")
    assert not wrong, "\n".join(wrong)


def test_no_identifier_around_the_package_is_one_of_the_worst() -> None:
    wrong = [
        f"{relative(file)}:{line}: `{name}` fits any value. {ADVICE}"
        for file in python_files(*FOLDERS)
        for line, name in fillers(file.read_text(), EVERYWHERE)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_identifier_of_a_page_is_one_of_the_worst() -> None:
    """In the blocks of Python, which users copy."""
    shown = [(page, block) for page in PAGES for block in blocks(page)]
    wrong = [
        f"{relative(page)}:{block.line + line}: `{name}` fits any value. {ADVICE}"
        for page, block in shown
        for line, name in fillers(block.code, EVERYWHERE)
    ]
    assert shown
    assert not wrong, "\n".join(wrong)


def test_every_exception_is_needed() -> None:
    used = {
        place: {name.strip("_").lower() for _, name in fillers((PACKAGE / place).read_text())} for place in EXCEPTIONS
    }
    assert used == EXCEPTIONS


def test_every_kind_of_definition_is_seen() -> None:
    names = {name for _, name in fillers(EVERY_KIND)}
    assert names == {
        "found", "Given", "_own", "made", "thing", "things", "got_", "stuff", "given", "found_", "_got", "own", "made_",
        "_thing", "_found", "_things", "_stuff", "_made", "_given",
    }  # fmt: skip
    assert not fillers("import found\ngiven.own(made=stuff)\n'''found'''  # given\n")
