"""The host kernel among threads and processes: concurrent callers, forked children, thread counts, caches."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scirs2_adapters import get, names
from scirs2_adapters.core import HostOptimizer
from scirs2_adapters.core.cpu import compile, loader
from tests.boundaries.support import fresh

pytestmark = pytest.mark.usefixtures("threads_for_little_work")
#: Several work items with an uneven rest; and something that is smaller than one.
SHAPES = ((700, 301), (513,), (3, 2, 5))
IN_A_PROCESS = "from tests.threads import for_little_work; for_little_work()\n"
each_rule = pytest.mark.parametrize("name", names())


def arrays(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def walked(name: str, threads: int | None, steps: int = 2) -> list[np.ndarray]:
    """Parameters and memory after some steps."""
    optimizer = HostOptimizer(get(name)(), params := arrays(0), kernel="host", threads=threads)
    for i in range(steps):
        optimizer.step(arrays(i + 1))
    return [*params, *(x for held in optimizer.state.values() for x in held.values())]


def equal(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@each_rule
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    one = walked(name, 1)
    assert equal(one, walked(name, 2))
    assert equal(one, walked(name, 3))


def at_once(work: Callable[[], None], threads: int = 8) -> list[BaseException]:
    """What goes wrong when this many threads do the same work from the same moment on."""
    start, errors = threading.Barrier(threads), list[BaseException]()

    def run() -> None:
        try:
            start.wait()
            work()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    return errors


@pytest.mark.parametrize("name", ["adamw", "lamb", "adafactor"])
def test_eight_threads_step_at_once_as_one_does(name: str) -> None:
    expected, seen = walked(name, 2, steps=5), list[list[np.ndarray]]()
    assert at_once(lambda: seen.append(walked(name, 2, steps=5))) == []
    assert len(seen) == 8
    assert all(equal(expected, result) for result in seen)


@pytest.mark.slow
def test_eight_threads_may_be_the_first_to_compile(tmp_path: Path) -> None:
    fresh(
        IN_A_PROCESS
        + """
from tests.unit.test_threads_fork import at_once, equal, walked
seen = []
assert at_once(lambda: seen.append(walked("lamb", 2))) == []
assert len(seen) == 8 and all(equal(seen[0], other) for other in seen)""",
        SCIRS2_CACHE_DIR=str(tmp_path),
    )


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["default", "workqueue", "omp"])
def test_a_forked_child_steps_after_its_parent_has(layer: str) -> None:
    """Whatever numba's threading layer is set to: the kernels use none of them."""
    fresh(
        IN_A_PROCESS
        + """
import os
from tests.unit.test_threads_fork import equal, walked
before = walked("adamw", 2), walked("lamb", 2)
child = os.fork()
if child == 0:
    same = equal(before[0], walked("adamw", 2)) and equal(before[1], walked("lamb", 2))
    os._exit(0 if same and walked("lion", 2) else 1)
assert os.waitpid(child, 0)[1] == 0
assert equal(before[0], walked("adamw", 2))""",
        NUMBA_THREADING_LAYER=layer,
    )


@pytest.mark.slow
def test_many_children_at_once_step() -> None:
    fresh(
        IN_A_PROCESS
        + """
import os
from tests.unit.test_threads_fork import equal, walked
before, children = walked("adamw", 2), []
for _ in range(4):
    if (child := os.fork()) == 0:
        os._exit(0 if equal(before, walked("adamw", 2)) else 1)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4"""
    )


WALK = 'from tests.unit.test_threads_fork import walked\nwalked("sgd", 1)\nwalked("lion", 1)'


@pytest.mark.slow
def test_a_cache_directory_that_cannot_be_written_costs_a_warning_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = fresh(WALK, SCIRS2_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert done.stderr.count("cannot be written") == 1
    assert "SCIRS2_CACHE_DIR" in done.stderr


@pytest.mark.slow
def test_a_damaged_cache_is_compiled_anew(tmp_path: Path) -> None:
    assert fresh(WALK, SCIRS2_CACHE_DIR=str(tmp_path)).stderr == ""
    files = sorted(tmp_path.glob("*.o"))
    for file in files:
        file.write_bytes(file.read_bytes()[:-40])
    done = fresh(WALK, SCIRS2_CACHE_DIR=str(tmp_path))
    assert done.stderr.count("is damaged and will be compiled anew") == len(files)
    assert fresh(WALK, SCIRS2_CACHE_DIR=str(tmp_path)).stderr == ""


@pytest.mark.slow
def test_kernels_compiled_by_different_processes_have_different_names(tmp_path: Path) -> None:
    for line in WALK.splitlines()[1:]:
        fresh(f"{WALK.splitlines()[0]}\n{line}", SCIRS2_CACHE_DIR=str(tmp_path))
    symbols = [re.findall(rb"cfunc\.scirs2_\w+", file.read_bytes())[0] for file in tmp_path.glob("*.o")]
    assert len(set(symbols)) == len(symbols) == 4  # two rules, the driver and its worker


@pytest.mark.slow
def test_a_damaged_name_in_the_cache_is_compiled_anew(tmp_path: Path) -> None:
    fresh(WALK, SCIRS2_CACHE_DIR=str(tmp_path))
    (file,) = tmp_path.glob("sgd-*.o")
    file.write_bytes(file.read_bytes().replace(b"scirs2_sgd", b"scirs2_sgb", 1))
    assert fresh(WALK, SCIRS2_CACHE_DIR=str(tmp_path)).stderr.count("is damaged and will be compiled anew") == 1


def test_a_user_without_a_home_has_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SCIRS2_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(NotADirectoryError):
        compile.cache_directory().mkdir(parents=True, exist_ok=True)


def test_a_disk_that_is_full_keeps_nothing_of_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    compile._write(tmp_path / "adam-0.o", b"code")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_warm_cache_is_loaded_without_the_compiler(tmp_path: Path) -> None:
    fresh(WALK, SCIRS2_CACHE_DIR=str(tmp_path))
    left_out = "{'numba', 'llvmlite'}" if loader.processor() else "{'numba'}"
    fresh(f"{WALK}\nimport sys\nassert not {left_out} & set(sys.modules)", SCIRS2_CACHE_DIR=str(tmp_path))


#: Threads that meet at the door of the loader, which takes its time.
MEET = """
import threading, time
import llvmlite.binding as llvm
from scirs2_adapters.core.cpu import compile

made, make = [], llvm.create_mcjit_compiler

def slow(*args):
    time.sleep(0.1)
    made.append(make(*args))
    return made[-1]

llvm.create_mcjit_compiler = slow
threads = [threading.Thread(target=compile.compiler_obstacle) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(made) == 1, made
"""


def test_threads_that_step_for_the_first_time_at_once_load_one_compiler(tmp_path: Path) -> None:
    # A second one would unload the kernels of the first when it replaces it, and their next call ends the process.
    fresh(MEET, SCIRS2_CACHE_DIR=str(tmp_path))
