"""The verb `scirs2 list`: all optimizers, a line each where it fits, or one of them with formula and arguments.

A terminal has lines as wide as it is. A file or a program gets one line for each optimizer, with all columns.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from itertools import zip_longest
from typing import Annotated

import typer

from scirs2_adapters import get
from scirs2_adapters.core import Rule, Wrapper, with_closure
from scirs2_adapters.core.document import OPTIONS, argument

from . import facts
from .catalog import COUNTS, Row, rows
from .output import failed, terminal_width

#: Width of a terminal from which on slots have a column, too.
_WIDE = 160
#: Widths of name, memory and counts in a narrow terminal; a longer name has a line of its own.
_NARROW = (18, 10, 6)
_MIDDLE = (25, 18, 6)
#: Widths of these and of slots in a wide one, and in a file.
_FULL = (25, 18, 14, 42)
_HEAD = Row("NAME", "SLOTS", "MEMORY", "COUNTS", "SOURCE")
_PARENTHESES = "SLOTS: those in parentheses exist with some settings only."
_CAPTION = (
    "MEMORY: numbers kept for an n x m matrix; r is a rank.",
    "COUNTS: whether the formula has the number of steps in it, or only whether a step is the first.",
    _PARENTHESES,
    f"`scirs2 list NAME` shows formula, arguments and slots of one, also of {' and '.join(with_closure())}.",
)


def list_(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="One of them: formula, arguments, slots.")] = "",
) -> None:
    """List the optimizers: what each remembers, what it counts, where it is from; or all about one of them."""
    width = terminal_width()
    try:
        lines = details(get(name), width) if name else overview(width)
    except (ValueError, TypeError) as error:
        raise failed(str(error).replace("`scirs2_adapters.names()`", "`scirs2 list`")) from error
    for line in lines:
        typer.echo(line)


def overview(width: int) -> Iterator[str]:
    """A line for each optimizer, or several where it does not fit; 0 is no limit."""
    for row in (_HEAD, *rows()):
        if 0 < width < _WIDE:
            cells = (row.name, row.memory, row.counts.removeprefix("the ").removesuffix(" step"), row.paper)
            yield from _fitted(cells, _NARROW if width < 100 else _MIDDLE, width)
        else:
            yield from _fitted((row.name, row.memory, row.counts, row.slots, row.paper), _FULL, width)
    yield ""
    for sentence in _CAPTION:
        if width == 0 or width >= _WIDE or sentence != _PARENTHESES:
            yield from _wrapped(sentence, width)


def _fitted(cells: tuple[str, ...], widths: tuple[int, ...], width: int) -> Iterator[str]:
    """The cells in columns, by words over several lines; without a limit on one, where a long cell moves others."""
    if not width:
        yield "  ".join(map(str.ljust, cells, (*widths, 0)))
        return
    last = max(width - sum(widths) - 2 * len(widths), 20)
    if len(cells[0]) > widths[0]:
        yield cells[0]
        cells = ("", *cells[1:])
    columns = [_words(cell, w) for cell, w in zip(cells, (*widths, last), strict=True)]
    for line in zip_longest(*columns, fillvalue=""):
        yield "  ".join(map(str.ljust, line, (*widths, 0))).rstrip()


def _words(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    """The text by words over lines of this width; `2 nm` and `arXiv 1902.09843` are one word each."""
    bound = re.sub(r"(?<=\d) (?=[nm]\w?\b)|(?<=arXiv) ", "\0", text)
    wrapper = textwrap.TextWrapper(width, first, others, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in wrapper.wrap(bound)]


def _wrapped(text: str, width: int, indent: str = "", hanging: str = "") -> list[str]:
    return _words(text, width, indent, indent + hanging) if width else [indent + text]


def details(rule: type[Rule], width: int) -> Iterator[str]:
    """One optimizer, as docs/optimizers.md has it, in the words of the core."""
    yield from _wrapped(f"{rule.__name__}: {facts.gist(rule)}", width)
    for part in facts.formula(rule):
        yield ""
        if " = " in part:
            yield from (f"  {line}" for line in part.splitlines())
        else:
            yield from _wrapped(" ".join(part.split()), width)
    yield from ("", "Arguments:")
    base = [f"base: {OPTIONS['base']}"] if issubclass(rule, Wrapper) else []
    for text in (*base, *(argument(name, field) for name, field in rule.fields.items())):
        yield from _wrapped(text, width, "  ", "    ")
    yield ""
    yield from _facts(rule, width)


def _facts(rule: type[Rule], width: int) -> Iterator[str]:
    remembers = {
        "slots": ", ".join(facts.slot_names(rule)) or "none",
        "memory": f"{facts.memory(rule)} per float32 parameter",
        "counts": COUNTS[rule().time_dependence],
    }
    for name, text in {**({} if rule.needs_closure else remembers), **facts.facts(rule)}.items():
        yield from _wrapped(f"{name[0].upper()}{name[1:]}: {text}", width, hanging="  ")
    yield ""
    yield from _wrapped(facts.LETTERS.replace("`", ""), width)
    spelled = f"Arguments are in the core's words; help(scirs2_adapters.torch.{rule.__name__}) has them in PyTorch's."
    yield from _wrapped(spelled, width)
