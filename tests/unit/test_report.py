"""`scirs2 report`: every section end to end, a page that stands alone, and what is said where something is missing."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from typer.testing import CliRunner

from scirs2_adapters.commands.app import app
from scirs2_adapters.core.errors import MissingExtraError
from scirs2_adapters.demo.catalogue import dense
from scirs2_adapters.demo.data import write_digits
from scirs2_adapters.report import learning, memory, patterns, programs, run, service, sizes, ways, worker, workflow
from scirs2_adapters.report.figures import panels, ranking
from scirs2_adapters.report.page import page
from scirs2_adapters.report.section import QUICK, Effort, MeasurementError, Section
from scirs2_adapters.report.ways import PATTERNS, Pattern, Supplies
from scirs2_adapters.report.work import ALONE, working

TINY = Effort(
    numbers=1000, pattern_steps=2, powers=(3, 4), seconds=0.0, models=("sklearn",), learn_steps=4,
    optimizers=("adamw", "lion"), digits_steps=10, width=16, layers=1, model_steps=5,
)  # fmt: skip
FACTS = {"python": "3 <&>"}
#: Programs that load a framework are run in this process, which has it loaded; the others as users run them.
FRAMEWORKS = tuple(p for p in PATTERNS if p.program in (programs.TORCH, programs.JAX))
LIGHT = tuple(p for p in PATTERNS if p not in FRAMEWORKS)
#: How far other roundings may lead in three steps of 1e-3: four units in the last place.
ROUNDING = 4 * 2.0**-32
Made = tuple[Path, dict[str, Section], str]


def here(task: str, environment: Mapping[str, str] = ALONE, **options: object) -> Iterator[dict[str, object]]:
    """The events of a worker's task, from this process; the core's alone is started as a process."""
    if options.get("contender") == sizes.CORE:
        return working(task, environment, **options)
    events: list[dict[str, object]] = []
    worker.perform(task, lambda event, **facts: events.append({"event": event, **facts}), json.dumps(options))
    return iter(json.loads(json.dumps(events)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The folder of a report, its sections and what the console said."""
    out, folder = io.StringIO(), tmp_path_factory.mktemp("report")
    light = patterns.TITLE, functools.partial(patterns.section, patterns=LIGHT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SECTIONS", {**run.SECTIONS, "patterns": light})
        for module in (sizes, workflow, learning):
            patch.setattr(module, "working", here)
        sections = run.run(folder, TINY, FACTS, Console(file=out, width=120))
    return folder, {section.name: section for section in sections}, out.getvalue()


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
    assert list(rows) == [p.name for p in LIGHT if not p.obstacle()]
    assert {row[-1] for name, row in rows.items() if name != "WebAssembly, in Node"} == {"0"}
    assert all(float(row[-1]) <= ROUNDING for row in rows.values())
    assert all(float(row[1]) > 0 and float(row[2]) > 0 for row in rows.values())


@pytest.mark.slow
@pytest.mark.parametrize("pattern", FRAMEWORKS, ids=lambda pattern: pattern.name.partition(",")[0])
def test_a_program_in_a_framework_takes_the_same_steps(pattern: Pattern, tmp_path: Path) -> None:
    numpy_alone = PATTERNS[0]
    for one, name in ((numpy_alone, "expected"), (pattern, "result")):
        exec(patterns.whole(one, TINY, Supplies(), tmp_path / name), {})
    expected, result = (np.fromfile(tmp_path / name, np.float32) for name in ("expected", "result"))
    assert expected.any()
    np.testing.assert_allclose(result, expected, rtol=0, atol=ROUNDING)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", learning.MODELS)
def test_each_model_learns_with_ours_as_with_the_frameworks(adapter: str, tmp_path: Path) -> None:
    steps, losses = 3, []
    write_digits(learning.settings(str(tmp_path), steps))
    for kind in learning.KINDS:
        events = list(here("learn", adapter=adapter, kind=kind, folder=str(tmp_path), steps=steps))
        assert [event["event"] for event in events] == ["begin", *["step"] * steps, "trained"]
        assert events[-1]["numbers"] > 1000
        losses.append([event["loss"] for event in events[1:-1]])
    assert len(set(losses[0])) == steps
    np.testing.assert_allclose(*losses, rtol=1e-2 if adapter == "sklearn" else 1e-4)  # its Adam has no decay


@pytest.mark.slow
def test_our_torch_optimizer_learns_as_torch_does(made: Made) -> None:
    losses = [float(row[-1]) for row in made[1]["workflow"].rows]
    assert len(losses) == 4
    assert max(losses) - min(losses) < 0.05
    assert [row[0] for row in made[1]["sizes"].rows] == ["1,000", "10,000"]
    assert sorted(row[0] for row in made[1]["digits"].rows) == ["AdamW", "Lion"]


def test_a_quick_report_trains_what_there_is() -> None:
    assert set(QUICK.models) < set(Effort().models) == set(learning.MODELS)
    assert set(QUICK.optimizers) <= set(dense())


def test_models_that_cannot_be_trained_are_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"torch": MissingExtraError("install torch"), "jax": MeasurementError("it died")}

    def fail(task: str, environment: Mapping[str, str], adapter: str, **options: object) -> Iterator[dict[str, object]]:
        raise errors[adapter]

    monkeypatch.setattr(learning, "working", fail)
    section = learning.section(Effort(models=tuple(errors), learn_steps=1), Console(file=io.StringIO()))
    assert (list(section.left_out), list(section.failed)) == (["LSTM in PyTorch: install torch"], ["it died"])
    assert (list(section.rows), dict(section.figures)) == ([], {})
    assert "GPT-2" not in section.text


def test_columns_of_numbers_are_aligned_on_the_right() -> None:
    rows = [["AdamW", "1,000", "6e-09", "99.4%", "-", "0.1 s"], ["Lion", "0.25", "0", "9%", "1.5", "12"]]
    text = page([Section("digits", "Digits", head=tuple("abcdef"), rows=rows)], {}, {"cores": "2"}, "now")
    classes = [re.findall(r"<t[hd]( class=\"number\")?>", line) for line in text.splitlines() if "<tr>" in line]
    assert {tuple(map(bool, row)) for row in classes[:-1]} == {(False, True, True, True, True, False)}


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Neighboring labels of ticks that lie on each other."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    overlaps = []
    for ax in figure.axes:
        for axis, along in ((ax.xaxis, "x"), (ax.yaxis, "y")):
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t in axis.get_major_ticks() if low <= t.get_loc() <= high and t.label1.get_text()]
            labels = [
                (t.label1.get_text(), t.label1.get_window_extent(renderer)) for t in ticks if t.label1.get_visible()
            ]
            labels.sort(key=lambda one: getattr(one[1], f"{along}0"))
            pairs = itertools.pairwise(labels)
            overlaps += [(a, b) for (a, p), (b, q) in pairs if getattr(p, f"{along}1") > getattr(q, f"{along}0")]
    return overlaps


@pytest.mark.slow
def test_no_labels_of_a_figure_lie_on_each_other(made: Made) -> None:
    for section in made[1].values():
        for name, (figure, _) in section.figures.items():
            assert (name, overlapping(figure)) == (name, [])


@pytest.mark.parametrize("worst", [0.5, 3.0, 2e6, float("inf"), float("nan")])
def test_a_loss_that_has_grown_leaves_the_others_room(worst: float) -> None:
    figure = ranking({"Muon": (0.004, 0.99), "AdamW": (0.1, 0.97), "DAdaptLion": (worst, 0.1)})
    assert overlapping(figure) == []
    assert figure.axes[0].get_xlim()[1] < 30
    marks = [(line.get_marker(), len(line.get_xdata())) for line in figure.axes[0].lines]
    assert marks == ([("o", 3), (">", 0)] if worst < 10 else [("o", 2), (">", 1)])


def test_a_run_that_ended_early_has_a_shorter_curve_in_its_panel() -> None:
    figure = panels({"AdamW": [2.0, 1.0, 0.5, 0.2], "SGD": [2.0, 30.0]})
    whole, short = (ax.lines[1].get_ydata() for ax in figure.axes)
    assert np.isfinite(whole).all()
    assert np.isfinite(short).tolist() == [True, True, False, False]


def test_a_service_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(MeasurementError, match="scirs2 serve ended with 1: without a word"), service.running():
        pass


def test_a_model_that_does_not_fit_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 2000 * sizes.NEEDED)
    said: list[tuple[str, dict[str, object]]] = []
    sizes.step_sizes(lambda event, **facts: said.append((event, facts)), sizes.CORE, [1000, 10_000, 100_000], 0.0)
    assert [event for event, _ in said] == ["begin", "size", "begin", "full"]
    assert "10,000 parameters: numpy core may need" in str(said[-1][1]["why"])


def test_a_missing_tool_leaves_out_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(ways, "find_spec", lambda name: None)
    section = patterns.section(TINY, Console(file=io.StringIO()))
    assert [row[0] for row in section.rows] == ["numpy, in process"]
    told = ("brings it", "C compiler", "Node is not on PATH")
    assert all(any(words in sentence for sentence in section.left_out) for words in told)


def test_a_program_that_fails_is_named_and_the_others_are_run() -> None:
    broken = Pattern("broken", "raise OSError('no such thing')\n")
    section = patterns.section(TINY, Console(file=io.StringIO()), (broken, PATTERNS[0]))
    assert section.failed == ["The process of broken ended with 1: OSError: no such thing"]
    assert [row[0] for row in section.rows] == ["numpy, in process"]


@pytest.mark.parametrize(
    ("error", "left_out", "failed"),
    [
        (MissingExtraError("install it"), ["install it"], []),
        (MeasurementError("it died"), [], ["it died"]),
        (KeyError("fault"), [], ["KeyError: 'fault'"]),
    ],
    ids=["missing", "failed", "faulty"],
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
        list(working("sizes", ALONE, budgets=1))


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
