"""The documentation site has every page, and what runs elsewhere are the verbs of the Makefile."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.boundaries.support import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def pages(nav: Any) -> Iterator[str]:
    """The files that a navigation names."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from pages(part)


def test_every_page_is_in_the_navigation_once() -> None:
    listed = list(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("**/*.md")]
    beside = ["index.md", "decisions/index.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
    assert sorted(listed) == sorted([*(name for name in written if not name.startswith("decisions/")), *beside])


def test_docstrings_are_in_the_style_that_the_site_reads() -> None:
    assert "docstring_style: google" in (ROOT / "mkdocs.yml").read_text()
    others = re.compile(r"^\s*:(param|returns?|raises)\b", re.MULTILINE)
    files = (ROOT / "scirs2_adapters").rglob("*.py")
    assert [file.relative_to(ROOT).as_posix() for file in files if others.search(file.read_text())] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_verbs_of_the_makefile_alone(workflow: Any) -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    steps = [s for job in yaml.safe_load(workflow.read_text())["jobs"].values() for s in job["steps"]]
    commands = [s["run"] for s in steps if "run" in s]
    assert commands
    assert {command.removeprefix("make ") for command in commands} <= verbs
    assert all(command.startswith("make ") for command in commands)
