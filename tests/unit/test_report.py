"""`scirs2 report`: every section end to end, a page that stands alone, and what is said where something is missing."""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from scirs2_adapters.commands.app import app
from scirs2_adapters.core.errors import MissingExtraError
from scirs2_adapters.report import memory, patterns, programs, run, sizes
from scirs2_adapters.report.section import Effort, MeasurementError, Section
from scirs2_adapters.report.work import working

TINY = Effort(1000, 2, (3, 4), 0.0, ("adamw", "lion"), 10, 16, 1, 5)
FACTS = {"python": "3 <&>"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Section], str]:
    """The folder of a report, its sections and what the console said."""
    out, folder = io.StringIO(), tmp_path_factory.mktemp("report")
    sections = run.run(folder, TINY, FACTS, Console(file=out, width=120))
    return folder, {section.name: section for section in sections}, out.getvalue()


Made = tuple[Path, dict[str, Section], str]


@pytest.mark.slow
def test_nothing_fails_and_every_section_has_rows_and_figures(made: Made) -> None:
    assert list(made[1]) == list(run.SECTIONS)
    for section in made[1].values():
        assert list(section.failed) == []
        assert section.rows
        assert all(len(row) == len(section.head) for row in section.rows)
        for name in section.figures:
            assert (made[0] / f"report-{name}.png").read_bytes().startswith(b"\x89PNG")
    assert made[2].strip().splitlines()[-1] == f"Report: {made[0] / 'report.html'}"


@pytest.mark.slow
def test_the_page_stands_alone(made: Made) -> None:
    page = (made[0] / "report.html").read_text()
    words = re.sub(r'src="data:image/png;base64,[^"]*"', "", page)
    assert re.findall(r"https?:|//[a-z]|<script|<link|@import|url\(", words) == []
    sources = re.findall(r'src="([^"]*)"', page)
    figures = [name for section in made[1].values() for name in section.figures]
    pictures = {(made[0] / f"report-{name}.png").read_bytes() for name in figures}
    assert {base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources} == pictures
    assert "3 &lt;&amp;&gt;" in page
    assert all(f'<h2 id="{name}">' in page for name in (*made[1], "machine"))


@pytest.mark.slow
def test_every_program_takes_the_same_steps(made: Made) -> None:
    rows = {row[0]: row for row in made[1]["patterns"].rows}
    here = [p.name for p in patterns.PATTERNS if not p.obstacle()]
    assert list(rows) == here
    assert {row[-1] for name, row in rows.items() if name != "WebAssembly, in Node"} == {"0"}
    assert all(float(row[-1]) < 1e-8 for row in rows.values())  # a unit or two in the last place of steps of 1e-3
    assert all(float(row[2]) > 0 for row in rows.values())


@pytest.mark.slow
def test_our_torch_optimizer_learns_as_torch_does(made: Made) -> None:
    losses = [float(row[-1]) for row in made[1]["workflow"].rows]
    assert len(losses) == 4
    assert max(losses) - min(losses) < 0.05
    assert [row[0] for row in made[1]["sizes"].rows] == ["1,000", "10,000"]
    assert sorted(row[0] for row in made[1]["digits"].rows) == ["AdamW", "Lion"]


def test_a_model_that_does_not_fit_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 2000 * sizes.NEEDED)
    said: list[tuple[str, dict[str, object]]] = []
    sizes.step_sizes(lambda event, **facts: said.append((event, facts)), sizes.CORE, [1000, 10_000, 100_000], 0.0)
    assert [event for event, _ in said] == ["begin", "size", "begin", "full"]
    assert "10,000 parameters: numpy core may need" in str(said[-1][1]["why"])


def test_a_missing_tool_leaves_out_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(patterns, "find_spec", lambda name: None)
    section = patterns.section(TINY, Console(file=io.StringIO()))
    assert [row[0] for row in section.rows] == ["numpy, in process"]
    told = ("brings it", "C compiler", "Node is not on PATH")
    assert all(any(words in sentence for sentence in section.left_out) for words in told)


def test_a_program_that_fails_is_named_and_the_others_are_run() -> None:
    broken = patterns.Pattern("broken", "raise OSError('no such thing')\n", str)
    section = patterns.section(TINY, Console(file=io.StringIO()), (broken, patterns.PATTERNS[0]))
    assert section.failed == ["The process of broken ended with 1: OSError: no such thing"]
    assert [row[0] for row in section.rows] == ["numpy, in process"]


@pytest.mark.parametrize(
    ("error", "left_out", "failed"),
    [(MissingExtraError("install it"), ["install it"], []), (MeasurementError("it died"), [], ["it died"])],
    ids=["missing", "failed"],
)
def test_a_section_that_cannot_be_measured_says_why(
    error: Exception, left_out: list[str], failed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(effort: Effort, console: Console) -> Section:
        raise error

    monkeypatch.setattr(run, "SECTIONS", {"sizes": ("Title", measure)})
    section = run.measured("sizes", TINY, Console(file=io.StringIO()))
    assert (section.title, list(section.left_out), list(section.failed)) == ("Title", left_out, failed)


def test_a_worker_that_ends_early_is_an_error_with_its_last_words() -> None:
    with pytest.raises(MeasurementError, match=r"ended with 1: .*unexpected keyword argument 'budgets'"):
        list(working("sizes", budgets=1))


def test_an_output_that_cannot_be_made_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = CliRunner().invoke(app, ["report", "--output", str(tmp_path / "file")])
    assert done.exit_code == 1
    assert "`--output` must be a folder that can be made." in done.output
    assert (tmp_path / "file").read_text() == "in the way"


def test_without_matplotlib_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = CliRunner().invoke(app, ["report", "--output", str(tmp_path / "new")])
    assert done.exit_code == 1
    assert 'pip install ".[demo]"' in done.output
    assert not (tmp_path / "new").exists()


def test_lines_are_counted_without_blank_ones() -> None:
    assert programs.lines("a\n\n  \nb\n") == 2
