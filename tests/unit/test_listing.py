"""`scirs2 list`: every optimizer in every width, and one of them with all that the docs say of it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import scirs2_adapters
from scirs2_adapters.commands import facts
from scirs2_adapters.commands.app import app
from scirs2_adapters.commands.catalog import rows
from scirs2_adapters.commands.listing import details, overview
from scirs2_adapters.core import get, names, with_closure, with_value
from scirs2_adapters.core.document import argument

NAMES = sorted((*names(), *with_value()))
PAGE = (Path(__file__).parents[2] / "docs/optimizers.md").read_text()


def test_a_file_gets_a_line_for_each_optimizer_with_all_that_there_is() -> None:
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines[: len(NAMES)]] == NAMES
    assert not any(lines[len(NAMES)])  # then the caption
    for line, row in zip(lines, rows(), strict=False):
        assert line.split() == f"{row.name} {row.memory} {row.counts} {row.slots} {row.paper}".split()


@pytest.mark.parametrize("width", [80, 99, 100, 120, 159, 160, 200])
def test_a_terminal_breaks_lines_between_words_and_never_within_one(width: int) -> None:
    lines = list(overview(width))
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines[1 : lines.index("")] if line[0] != " "] == NAMES
    printed = " ".join(lines).split()
    for row in rows():
        assert set(f"{row.name} {row.memory} {row.paper}".split()) <= set(printed), row.name
        assert set(row.slots.split()) <= set(printed) or width < 160
    for text in re.findall(r"arXiv.{0,6}", "\n".join(lines)):
        assert re.match(r"arXiv \d{4}\.", text)  # a number stays beside its word, so that it can be searched for


def test_an_ordinary_terminal_has_most_optimizers_on_one_line() -> None:
    entries = [line for line in list(overview(120))[1:] if line]
    assert len(entries) < 1.5 * len(NAMES)


def test_the_width_is_that_of_the_terminal() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(Path(scirs2_adapters.__file__).parents[1])}
    command = [sys.executable, "-m", "scirs2_adapters.cli", "list", "lion"]
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        parts = []
        while part := _read(ours):
            parts.append(part)
        assert process.wait() == 0
    os.close(ours)
    lines = b"".join(parts).decode().splitlines()
    assert lines[0].startswith("Lion: ")
    assert 70 < max(map(len, lines)) <= 80


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so at the end
        return b""


@pytest.mark.parametrize("name", NAMES)
def test_the_details_are_those_of_the_docs(name: str) -> None:
    rule = get(name)
    section = PAGE.partition(f"\n## {rule.__name__}\n")[2].partition("\n## ")[0]
    plain = re.sub(r"\[(arXiv [\d.]+)\]\(.*?\)", r"\1", section)
    lines = list(details(rule, 0))
    assert lines[0] == f"{rule.__name__}: {facts.gist(rule)}"
    assert facts.gist(rule) in plain
    text = "\n".join(line.removeprefix("  ") for line in lines)
    for part in facts.formula(rule):
        assert part in section
        assert part in text or " ".join(part.split()) in text
    assert {f"  {argument(key, field)}" for key, field in rule.fields.items()} <= set(lines)
    for fact, said in facts.facts(rule).items():
        assert f"- {fact}: {said}" in plain
        assert f"{fact.capitalize()}: {said}" in lines
    slots = next(line for line in lines if line.startswith("Slots: ")).removeprefix("Slots: ")
    assert f"- slots: {slots};" in re.sub(r"`(\w+)`", r"\1", section)


@pytest.mark.parametrize("name", with_closure())
def test_what_steps_by_a_closure_has_details_too(name: str) -> None:
    text = "\n".join(details(get(name), 80))
    assert all(f"  {key}:" in text for key in get(name).fields)
    assert "Slots:" not in text  # what it remembers is not in slots


def test_an_unknown_optimizer_is_refused_with_the_nearest_name() -> None:
    done = CliRunner().invoke(app, ["list", "lionn"])
    assert done.exit_code == 1
    assert done.stderr == "No optimizer is named `lionn`. Did you mean `lion`? `scirs2 list` lists all.\n"
    assert done.stdout == ""


def test_without_docstrings_there_is_still_a_list() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(scirs2_adapters.__file__).parents[1])}
    command = [sys.executable, "-OO", "-c", "from scirs2_adapters.commands.listing import *; list_(); list_('adamw')"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.count("adamw") > 1
    assert "learning_rate" in done.stdout
