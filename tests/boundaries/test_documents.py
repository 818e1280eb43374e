"""The documents and the commands agree, and no document sends anyone to another project's package."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.boundaries.support import ROOT, python_files

DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
VERBS = (
    "help", "setup", "demo", "test", "test-all", "test-trainers", "test-lowest", "test-newest", "test-flower", "lint",
    "type", "gen", "docs", "site", "bench", "clean",
)  # fmt: skip
BARE_INSTALL = re.compile(
    r"""(?:pip|uv|pipx|poetry)\s+(?:pip\s+)?(?:install|add)\s[^`\n]*?["']?\bscirs2\b(?!_|-\d)(?!(?:\[[\w,]*\])? @)"""
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_no_document_installs_from_an_index_by_our_bare_name(document: Path) -> None:
    text = document.read_text()
    warning = "never `pip install scirs2`"  # the sentence that says why
    assert BARE_INSTALL.findall(text.replace(warning, "")) == []


@pytest.mark.parametrize(
    ("line", "bare"),
    [
        ("pip install scirs2", True),
        ('pip install "scirs2[torch]"', True),
        ("pip install -U scirs2[all]", True),
        ("uv add scirs2", True),
        ('pip install ".[torch]"', False),
        ('pip install "scirs2[torch] @ file:///tmp/scirs2-0.1.0-py3-none-any.whl"', False),
        ("pip install dist/scirs2-0.1.0-py3-none-any.whl", False),
        ("pip install numpy; import scirs2_adapters", False),
    ],
)
def test_a_bare_install_is_told_from_a_safe_one(line: str, bare: bool) -> None:
    assert bool(BARE_INSTALL.search(line)) is bare


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_readme_shows_the_two_commands_on_its_first_screen(command: str) -> None:
    assert command in "\n".join((ROOT / "README.md").read_text().splitlines()[:60])


def test_the_readme_opens_with_the_picture_of_the_demo() -> None:
    assert "(docs/demo.png)" in "\n".join((ROOT / "README.md").read_text().splitlines()[:10])


def test_the_readme_has_a_page_for_each_framework() -> None:
    (table,) = re.findall(r"## Which page\n\n(.*?)\n\n", (ROOT / "README.md").read_text(), re.DOTALL)
    pages = {"torch", "tf", "jax", "hf", "sklearn", "core", "exporting", "serving", "federated"}
    assert {page for page in pages if f"(docs/{page}.md)" not in table} == set()


@pytest.mark.parametrize("part", ["optimizers", "tested"])
def test_the_readme_has_room_for_its_generated_tables(part: str) -> None:
    opened, closed = f"<!-- generated:{part} -->", f"<!-- /generated:{part} -->"
    text = (ROOT / "README.md").read_text()
    assert text.count(opened) == text.count(closed) == 1
    assert text.index(opened) < text.index(closed)


def test_contributing_opens_with_the_commands() -> None:
    opening = (ROOT / "CONTRIBUTING.md").read_text().split("\n## ")[0]
    assert [
        verb for verb in ("setup", "test", "lint", "type", "gen", "docs", "bench") if f"make {verb}" not in opening
    ] == []


def test_make_help_lists_every_verb() -> None:
    make = shutil.which("make")
    assert make, "make is needed to run this project's commands"
    done = subprocess.run([make, "-s", "help"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert [line.split()[1] for line in done.stdout.splitlines()] == list(VERBS)


def test_ci_runs_the_test_command() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


@pytest.mark.parametrize("script", sorted((ROOT / "findings").glob("*.sh")), ids=lambda script: script.stem)
def test_a_finding_can_be_run(script: Path) -> None:
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n# ")


def test_relative_links_lead_somewhere() -> None:
    link = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
    dead = [
        (file.name, to)
        for file in DOCUMENTS
        for to in link.findall(file.read_text())
        if not (file.parent / to).exists()
    ]
    assert dead == []


def test_conformance_names_no_optimizer() -> None:
    """Everything there comes from the registry: a new optimizer must be covered without an edit."""
    import scirs2_adapters

    names = "|".join(re.escape(name) for name in scirs2_adapters.names())
    chosen = {"test_modes", "test_continued"}  # combinations, and models that are trained for long
    files = [f for f in python_files(ROOT / "tests/conformance") if f.stem not in chosen]
    mentions = [
        (file.name, word)
        for file in files
        for word in re.findall(rf"(?i)(?<![a-z_])({names})(?![a-z_])", file.read_text())
    ]
    assert files
    assert mentions == []
