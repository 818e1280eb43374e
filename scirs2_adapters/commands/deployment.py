"""What would go wrong where the package is deployed, each with what to do about it. Nothing is changed by looking.

Every check is a function of what it looks at (variables, versions, files), and yields one `Trouble` for each finding.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, TypedDict

from scirs2_adapters.core.cpu import compile as compiler

#: Numbers of threads that libraries read, beside OMP_NUM_THREADS.
THREADS = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
#: File names of the OpenMP runtimes, and who brings them.
RUNTIMES = {"libgomp": "GNU", "libiomp5": "Intel", "libomp": "LLVM"}
#: Settings that pin threads to processors, which forked or further processes inherit.
AFFINITY = ("KMP_AFFINITY", "GOMP_CPU_AFFINITY")
#: Settings with which waiting threads of OpenMP spin.
SPINNING = {"KMP_BLOCKTIME": ("infinite",), "OMP_WAIT_POLICY": ("active",)}


class Trouble(NamedTuple):
    """What would go wrong, and what to do."""

    problem: str
    todo: str

    def __str__(self) -> str:
        return f"{self.problem}. {self.todo}"


def troubles() -> list[Trouble]:
    """Everything that would go wrong for this process and those like it."""
    of_compiler = [*kernel(compiler.compiler_obstacle()), *places(compiler.cache_directory(), os.environ)]
    old = [*old_versions(_requirements())]
    return [*of_compiler, *old, *untested(version_runs(), _version), *threads(os.environ, _processors())]


def kernel(obstacle: str | None) -> Iterator[Trouble]:
    """Whether kernels can be compiled."""
    if obstacle is not None:
        todo = "Unset NUMBA_DISABLE_JIT." if "NUMBA_DISABLE_JIT" in obstacle else "Install numba for this Python."
        yield Trouble(f"the host kernel cannot run ({obstacle}), and every step is traced", todo)


def places(cache: Path, environment: Mapping[str, str]) -> Iterator[Trouble]:
    """Whether compiled kernels can be kept. A home that cannot be written matters where the cache is below it."""
    reason = unwritable(cache)
    if reason:
        problem = f"kernels are compiled anew at each start, for the home folder is read-only: {cache} ({reason})"
        if "SCIRS2_CACHE_DIR" in environment:
            problem = f"kernels are compiled anew at each start: SCIRS2_CACHE_DIR={cache} cannot be written ({reason})"
        yield Trouble(problem, "Set SCIRS2_CACHE_DIR to a folder that this user may write, kept between starts.")


def unwritable(directory: Path) -> str | None:
    """Why no file can be made there. It is tried, because permission bits say nothing of a read-only mount."""
    try:
        existing = next(d for d in (directory, *directory.parents) if d.exists())
        with tempfile.NamedTemporaryFile(dir=existing):
            return None
    except OSError as error:
        return error.strerror or str(error)


def old_versions(requirements: Iterable[str]) -> Iterator[Trouble]:
    """What is installed in a version older than the oldest that an adapter takes."""
    for line in dict.fromkeys(requirements):
        match = re.match(r"([\w.-]+)>=([\d.]+)", line)
        installed = match and _version(match[1])
        if match and installed and _numbers(installed) < _numbers(match[2]):
            todo = f'Install a newer one: `pip install "{match[1]}>={match[2]}"`.'
            yield Trouble(f"{match[1]} {installed} is older than what is supported ({match[2]} and newer)", todo)


class Run(TypedDict):
    """A run of the core checks: what was installed, and how it ended."""

    adapter: str
    set: str
    date: str
    versions: dict[str, str]
    passed: int
    failed: int
    skipped: int


def version_runs() -> list[Run]:
    """The runs of the core checks with sets of versions (tests/versions.py), as the wheel carries them."""
    runs: list[Run] = json.loads((files(__package__) / "versions.json").read_text())
    return runs


def untested(runs: Iterable[Run], installed: Callable[[str], str | None]) -> Iterator[Trouble]:
    """What is installed in a version older or newer than those with which the core checks passed. Patches of the oldest
    and the newest count as tested.
    """
    passed: dict[str, set[str]] = {}
    for run in runs:
        for name, release in run["versions"].items() if not run["failed"] else ():
            passed.setdefault(name, set()).add(release)
    for name, releases in passed.items():
        here, ends = installed(name), [f(releases, key=_numbers) for f in (min, max)]
        if here and not _numbers(ends[0])[:2] <= _numbers(here)[:2] <= _numbers(ends[1])[:2]:
            problem = f"{name} {here} is outside the tested versions ({' to '.join(dict.fromkeys(ends))})"
            yield Trouble(problem, "Install one of these, or check yours: `scirs2 check`.")


def threads(environment: Mapping[str, str], processors: int) -> Iterator[Trouble]:
    """Settings of threads that fight each other."""
    granted = environment.get("OMP_NUM_THREADS", "").split(",")[0]
    for name in ("OMP_NUM_THREADS", *THREADS):
        yield from _number_of_threads(name, environment.get(name, "").split(",")[0].strip(), granted, processors)
    for name in AFFINITY:
        if (value := environment.get(name, "").lower()) and "none" not in value and "disabled" not in value:
            fault = f"{name}={environment[name]} pins the threads of each process to the same processors"
            yield Trouble(fault, f"Unset {name} where several processes train, data loaders and workers included.")
    for name, values in SPINNING.items():
        if environment.get(name, "").lower() in values:
            fault = f"with {name}={environment[name]} waiting threads spin, and processes that are forked from one that"
            fault += " has stepped share the processors with them"
            yield Trouble(fault, f"Unset {name}, or start workers with the method 'spawn'.")


def _number_of_threads(name: str, value: str, granted: str, processors: int) -> Iterator[Trouble]:
    """What is wrong with one number of threads, beside that of OMP_NUM_THREADS."""
    if value and not (value.isdigit() and int(value)):
        fault = f"{name}={value} is not a number of threads: libraries warn, and take a number of their choice"
        yield Trouble(fault, f"Set {name} to 1 or more, at most {processors} here, or leave it out.")
    elif value and granted.isdigit() and value != granted:
        fault = f"OMP_NUM_THREADS={granted} and {name}={value} differ: libraries use different numbers"
        yield Trouble(fault, f"Unset {name}, or set both to the same number.")
    elif value and int(value) > processors:
        fault = f"{name}={value} is more than the {processors} processors of this process"
        yield Trouble(fault, f"Set {name}={processors}, or leave it out.")


def runtimes(adapter: str, libraries: Iterable[str]) -> Iterator[Trouble]:
    """Several OpenMP runtimes in a process of this adapter, in which these libraries are loaded."""
    names = {re.split(r"[-.]", library)[0] for library in libraries}
    loaded = sorted(f"{name} ({RUNTIMES[name]})" for name in names & RUNTIMES.keys())
    if len(loaded) > 1:
        problem = f"{adapter} loads several OpenMP runtimes: {', '.join(loaded)}; each starts threads of its own"
        yield Trouble(problem, "Install the frameworks from one source, or set OMP_NUM_THREADS so that both fit.")


def _requirements() -> list[str]:
    """What the metadata of this package asks for, with all extras; nothing where it is not installed."""
    try:
        return [line.partition(";")[0].strip() for line in requires("scirs2") or ()]
    except PackageNotFoundError:
        return []


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)[:3]))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
