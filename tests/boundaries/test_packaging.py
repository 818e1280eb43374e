"""The metadata says what the adapters check, the pins satisfy it, and the wheel holds the package and nothing else."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import scirs2_adapters
from tests.boundaries.support import ADAPTERS, DISTRIBUTIONS, PACKAGE, PROJECT, ROOT, frameworks, relative

EXTRAS = PROJECT["project"]["optional-dependencies"]
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?(?:>=([\d.]+))?(?:; sys_platform == 'linux')?$")


def floors(lines: list[str]) -> dict[str, str | None]:
    """Distribution -> floor; a line of any other form, an upper bound or an address, does not parse."""
    parsed = [(line, REQUIREMENT.match(line)) for line in lines]
    assert [line for line, match in parsed if match is None] == []
    return {match[1]: match[2] for _, match in parsed if match}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_extra_asks_for_what_its_adapter_checks(adapter: str) -> None:
    checked = {DISTRIBUTIONS.get(name, name): floor for name, (_, floor) in frameworks(adapter).items()}
    assert floors(EXTRAS[adapter]) == checked


def test_all_takes_in_every_adapter() -> None:
    assert EXTRAS["all"] == [f"scirs2[{','.join(EXTRAS['all'][0][7:-1].split(','))}]"]
    assert set(EXTRAS["all"][0][7:-1].split(",")) == set(ADAPTERS)


def test_the_core_depends_on_numpy_and_numba_only() -> None:
    assert floors(PROJECT["project"]["dependencies"]) == {"numpy": "2.0", "numba": "0.60"}


def test_every_requirement_is_pinned_at_or_above_its_floor(pins: dict[str, str]) -> None:
    groups = [line for group in PROJECT["dependency-groups"].values() for line in group if isinstance(line, str)]
    extras = [line for name, lines in EXTRAS.items() if name != "all" for line in lines]
    for name, floor in floors([*PROJECT["project"]["dependencies"], *extras, *groups]).items():
        assert name in pins, f"constraints.txt does not pin {name}"
        assert floor is None or numbers(pins[name]) >= numbers(floor)


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml", "Makefile", ".ci/run"])
def test_no_package_index_is_named(name: str) -> None:
    text = (ROOT / name).read_text()
    assert re.findall(r"\w+://\S+|--(?:extra-)?index-url|--find-links", text) == []


def test_the_command_and_the_group_for_plugins_are_declared() -> None:
    assert PROJECT["project"]["scripts"] == {"scirs2": "scirs2_adapters.cli:main"}
    assert "scirs2.optimizers" in (ROOT / "pyproject.toml").read_text()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build from: a build leaves folders behind, and stale ones would find their way into the wheel."""
    copy = tmp_path_factory.mktemp("source")
    shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def build(source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(source, tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    info = f"scirs2-{scirs2_adapters.__version__}.dist-info/"
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [file for pattern in ("*.py", "*.pyi", "py.typed", "versions.json") for file in PACKAGE.rglob(pattern)]
    assert {name for name in inside if not name.startswith(info)} == {relative(file) for file in files}
    assert "scirs2_adapters/py.typed" in inside
    assert f"{info}licenses/LICENSE" in inside


@pytest.mark.slow
def test_the_wheel_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import scirs2_adapters as s2; assert s2.names(); print(s2.__version__, s2.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=True)
    assert done.stdout.split() == [scirs2_adapters.__version__, str(tmp_path / "scirs2_adapters/__init__.py")]


@pytest.mark.slow
def test_the_wheel_is_the_same_bytes_when_built_again(wheel: Path, source: Path, tmp_path: Path) -> None:
    again = build(source, tmp_path)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(wheel.read_bytes()).digest()
