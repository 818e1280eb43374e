"""What became of all checks: lines to read, and JUnit's XML."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from .outcome import Outcome


@dataclass(frozen=True)
class Report:
    """The outcomes of one optimizer."""

    path: str
    framework: str
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> list[Outcome]:
        """Those that failed."""
        return [outcome for outcome in self.outcomes if outcome.status == "FAIL"]

    def summary(self) -> str:
        """How many of each."""
        counts = {status: sum(o.status == status for o in self.outcomes) for status in _STATUS}
        return f"{self.path} in {self.framework}: " + ", ".join(f"{n} {_STATUS[s]}" for s, n in counts.items())

    def junit(self) -> ElementTree.ElementTree[ElementTree.Element]:
        """As JUnit's XML, one test case a check."""
        counts = {"failures": len(self.failed), "skipped": sum(bool(o.why) for o in self.outcomes), "errors": 0}
        said = {"name": self.path, "tests": len(self.outcomes), **counts, "time": self._seconds()}
        suite = ElementTree.Element("testsuite", {k: str(v) for k, v in said.items()})
        for o in self.outcomes:
            about = {"classname": f"{self.framework}.{self.path}", "name": o.name, "time": f"{o.seconds:.3f}"}
            case = ElementTree.SubElement(suite, "testcase", about)
            if o.status == "FAIL":
                failure = ElementTree.SubElement(case, "failure", {"message": f"expected {o.expected}"})
                failure.text = f"{o.says}\nexpected: {o.expected}\ncame: {o.came}"
            elif o.why:
                ElementTree.SubElement(case, "skipped", {"message": o.why})
        suites = ElementTree.Element("testsuites")
        suites.append(suite)
        return ElementTree.ElementTree(suites)

    def _seconds(self) -> str:
        return f"{sum(o.seconds for o in self.outcomes):.3f}"

    def write_junit(self, path: Path) -> None:
        """Write it to a file."""
        tree = self.junit()
        ElementTree.indent(tree)
        tree.write(path, encoding="utf-8", xml_declaration=True)


_STATUS = {"pass": "passed", "FAIL": "failed", "not applicable": "not applicable"}


def lines(outcome: Outcome, width: int = 0) -> Iterator[str]:
    """A check as text: one line, two more where it failed. With a width, longer ones go on in the next line."""
    short = "n/a" if outcome.why else outcome.status
    yield from _folded(
        f"{short:4}  {outcome.name:32}  ", f"{outcome.says}{f' ({outcome.why})' * bool(outcome.why)}", width
    )
    if outcome.status == "FAIL":
        yield from _folded(f"{'':6}expected: ", outcome.expected, width)
        yield from _folded(f"{'':6}came:     ", outcome.came, width)


def _folded(head: str, text: str, width: int) -> list[str]:
    if not width or len(head) + len(text) <= width:
        return [head + text]
    wrapper = textwrap.TextWrapper(
        max(width, 72), head, " " * len(head), break_long_words=False, break_on_hyphens=False
    )
    return wrapper.wrap(text)
