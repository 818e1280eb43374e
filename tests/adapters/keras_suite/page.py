"""The part of docs/tf.md about Keras' tests, drawn from the cases and from what is said of them, which is held true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from ..wheel_suite import item, why
from .cases import Case
from .classes import matches
from .expected import BACKENDS, DIFFERS, LEFT_OUT, expected, on_every_backend


def text() -> str:
    """The table, and the reasons by the numbers that it has for them."""
    tested = list(on_every_backend())
    numbers = {told: str(i) for i, told in enumerate(dict.fromkeys(r.reason for r in DIFFERS), start=1)}
    left = dict.fromkeys(r.reason for r in LEFT_OUT)
    head = ["optimizer", *BACKENDS.values(), "why"]
    table = [head, ["---"] * len(head), *_rows(tested, numbers)]
    return "\n\n".join(
        [
            "\n".join(f"| {' | '.join(row)} |" for row in table),
            "\n".join(item(told, f"{number}. ") for told, number in numbers.items()),
            "Keras leaves out:",
            "\n".join(item(told) for told in left),
        ]
    )


def _rows(tested: list[Case], numbers: dict[str, str]) -> Iterator[list[str]]:
    counted: dict[str, dict[str, Counter[str]]] = {}
    reasons: dict[str, set[str]] = {}
    for case in tested:
        for row in _optimizers(case):
            ends = counted.setdefault(row, {b: Counter() for b in BACKENDS})[case.backend]
            ends[expected(case)] += 1
            reasons.setdefault(row, set()).update({numbers[told] for told in [why(case, DIFFERS)] if told})
    for row in sorted(counted):
        cells = [f"{ends['passes']} pass, {ends['fails']} differ" for ends in counted[row].values()]
        yield [row, *(c.removesuffix(", 0 differ") for c in cells), ", ".join(sorted(reasons[row], key=int))]


def _optimizers(case: Case) -> Iterator[str]:
    """The rows of a case: one for each optimizer it asks for."""
    for name in case.names:
        if case.match in matches(name):
            yield f'{name}, `match="{case.match}"`' if case.match else name
