"""The page's part about optax's tests, drawn from the cases and from what is said of them, which is held true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..wheel_suite import Reason, count_table, item, why
from .cases import Case, cases
from .expected import DIFFERS, FAILS_ANYHOW, FAILS_ITSELF, LEFT_OUT, expected
from .factories import matches
from .listed import listed_cases

PAGE = Path(__file__).resolve().parents[3] / "docs/jax.md"
OPENED, CLOSED = "<!-- Written by python -m tests.adapters.optax_suite write -->", "<!-- Written so far -->"
COLUMNS = ("cases", "pass", "differ", "optax leaves out", "optax itself fails")


def text() -> str:
    """The tables and the reasons."""
    tested = [*cases(), *listed_cases()]
    reasons = [
        *_reasons("Different here", tested, DIFFERS),
        *_reasons("Left out by optax", tested, LEFT_OUT),
        *_reasons("Failed by optax itself, passed here", tested, FAILS_ITSELF),
        *_reasons("Failed by either", tested, FAILS_ANYHOW),
    ]
    tables = [_table("optimizer", tested, _optimizers), _table("optax's file", tested, lambda case: [f"`{case.file}`"])]
    return "\n\n".join([*tables, "\n".join(reasons).strip()])


def _optimizers(case: Case) -> Iterator[str]:
    """The rows of a case: one for each optimizer it asks for."""
    for name in case.names:
        if case.match in matches(name):
            yield f'{name}, `match="{case.match}"`' if case.match else name


def _table(head: str, tested: Iterable[Case], rows_of: Callable[[Case], Iterable[str]]) -> str:
    counted: dict[str, Counter[str]] = {}
    for case in tested:
        for row in rows_of(case):
            counted.setdefault(row, Counter()).update(_columns(case))
    return count_table(head, COLUMNS, {k: counted[k] for k in sorted(counted)})


def _columns(case: Case) -> Iterator[str]:
    yield "cases"
    if not why(case, FAILS_ANYHOW):
        yield {"passes": "pass", "fails": "differ", "left out": "optax leaves out"}[expected(case)]
    if expected(case, theirs=True) == "fails":
        yield "optax itself fails"


def _reasons(head: str, tested: Iterable[Case], reasons: Iterable[Reason]) -> Iterator[str]:
    yield f"{head}:\n"
    for told in dict.fromkeys(r.reason for r in reasons):
        about = {n: None for case in tested if why(case, reasons) == told for n in case.names}
        yield item(f"{', '.join(about)}: {told}")
    yield ""


def on_page() -> str:
    """What the page says."""
    return PAGE.read_text().partition(OPENED)[2].partition(CLOSED)[0].strip()


def write() -> None:
    """Brings the page up to date."""
    before, _, rest = PAGE.read_text().partition(OPENED)
    PAGE.write_text(f"{before}{OPENED}\n\n{text()}\n\n{CLOSED}{rest.partition(CLOSED)[2]}")
