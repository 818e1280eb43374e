"""Other versions: the floors are those of pyproject.toml, every adapter has core checks, workflows run make's verbs."""

import re
from pathlib import Path

import pytest

from scirs2_adapters.commands.deployment import untested, version_runs
from tests import versions
from tests.boundaries.support import ADAPTERS, PROJECT, ROOT
from tests.boundaries.test_documents import VERBS

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def test_the_core_and_every_adapter_are_tested() -> None:
    assert set(versions.adapters()) == {"core", *ADAPTERS}


@pytest.mark.parametrize("adapter", ["core", *ADAPTERS])
def test_lowest_installs_the_floors_and_newest_bare_names(adapter: str) -> None:
    project = PROJECT["project"]
    lines = project["dependencies"] + project["optional-dependencies"].get(adapter, [])
    assert all(">=" in line for line in lines), "a floor is missing, and the lowest version is any"
    assert {line.replace(">=", "==") for line in lines} <= set(versions.requirements("lowest", adapter))
    assert versions.requirements("newest", adapter) == [line.split(">=")[0] for line in lines]


@pytest.mark.parametrize("adapter", ["core", *ADAPTERS])
def test_an_adapter_has_core_checks(adapter: str) -> None:
    files = versions.tests(adapter)
    assert len(files) >= (2 if adapter == "core" else 4)
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_a_report_is_counted() -> None:
    report = '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    assert versions.counts(report) == {"passed": 3, "failed": 3, "skipped": 3}


def test_a_run_is_of_an_adapter_with_versions_not_below_the_floors() -> None:
    for run in version_runs():
        assert run["set"] in versions.SETS
        assert run["passed"] > 0
        for line in versions.requirements("lowest", run["adapter"]):
            name, is_floor, floor = line.partition("==")
            assert not is_floor or numbers(run["versions"].get(name, floor)) >= numbers(floor), (run["adapter"], line)


def test_the_doctor_takes_the_pinned_versions_for_tested() -> None:
    """Where it does not, run `python tests/versions.py pinned` with the names of the adapters."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    assert list(map(str, untested(version_runs(), pins.get))) == []


def numbers(release: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", release)]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_runs_the_verbs_of_make_and_nothing_else(workflow: Path) -> None:
    lines = re.findall(r"^\s*(?:- )?run: *(.*)$", workflow.read_text(), re.MULTILINE)
    assert lines
    assert [line for line in lines if line.removeprefix("make ") not in VERBS or not line.startswith("make ")] == []


def test_the_workflows_run_every_check_that_make_has() -> None:
    said = " ".join(workflow.read_text() for workflow in WORKFLOWS)
    checks = [verb for verb in VERBS if verb.startswith("test") or verb in ("lint", "type", "site")]
    assert [verb for verb in checks if not re.search(rf"run: make {verb}$", said, re.MULTILINE)] == []
