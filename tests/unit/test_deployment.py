"""What `scirs2 doctor` finds wrong with a deployment, and that each finding says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from scirs2_adapters.commands import deployment, doctor
from scirs2_adapters.commands.deployment import kernel, old_versions, places, runtimes, threads, untested

#: Versions with which the checks passed, and one with which they did not.
RUNS = [
    {"versions": {"jax": "0.5.3"}, "failed": 0},
    {"versions": {"jax": "0.10.2"}, "failed": 0},
    {"versions": {"jax": "0.12.0"}, "failed": 3},
]
TROUBLES = {
    "no numba": (list(kernel("numba's compiler cannot be loaded (no)")), "Install numba"),
    "no jit": (list(kernel("NUMBA_DISABLE_JIT is set")), "Unset NUMBA_DISABLE_JIT"),
    "cache": (list(places(Path("/dev/null/a"), {"SCIRS2_CACHE_DIR": "/dev/null/a"})), "Set SCIRS2_CACHE_DIR"),
    "home": (list(places(Path("/dev/null/.cache"), {})), "Set SCIRS2_CACHE_DIR"),
    "numpy": (list(old_versions(["numpy>=99.1", "numpy>=99.1"])), 'pip install "numpy>=99.1"'),
    "newer": (list(untested(RUNS, {"jax": "0.11.0"}.get)), "scirs2 check"),
    "failed": (list(untested(RUNS, {"jax": "0.12.0"}.get)), "scirs2 check"),
    "older": (list(untested(RUNS, {"jax": "0.4.38"}.get)), "scirs2 check"),
    "MKL": (list(threads({"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "8"}, 8)), "Unset MKL_NUM_THREADS"),
    "numba": (list(threads({"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "3"}, 8)), "Unset NUMBA_NUM_THREADS"),
    "too many": (list(threads({"OMP_NUM_THREADS": "9"}, 2)), "Set OMP_NUM_THREADS=2"),
    "too many for numba": (list(threads({"NUMBA_NUM_THREADS": "9"}, 2)), "Set NUMBA_NUM_THREADS=2"),
    "no number": (list(threads({"OMP_NUM_THREADS": "auto", "MKL_NUM_THREADS": "2"}, 2)), "Set OMP_NUM_THREADS to 1"),
    "no thread": (list(threads({"MKL_NUM_THREADS": "0"}, 2)), "Set MKL_NUM_THREADS to 1"),
    "affinity": (list(threads({"KMP_AFFINITY": "granularity=fine,compact"}, 2)), "Unset KMP_AFFINITY"),
    "spinning": (list(threads({"KMP_BLOCKTIME": "infinite"}, 2)), "'spawn'"),
    "OpenMP": (list(runtimes("torch", ["libgomp-a34b.so.1", "libiomp5.so", "libc.so.6"])), "OMP_NUM_THREADS"),
}
FINE = {
    "kernel": kernel(None),
    "versions": old_versions(["numpy>=1.0", "not-installed>=9", "numba"]),
    "tested": untested(RUNS, {"jax": "0.9.1", "optax": "9.0"}.get),
    "a patch": untested(RUNS, {"jax": "0.10.7"}.get),
    "not installed": untested(RUNS, {}.get),
    "threads": threads({"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "KMP_AFFINITY": "disabled"}, 2),
    "nothing set": threads({}, 2),
    "nested": threads({"OMP_NUM_THREADS": "2,1", "OPENBLAS_NUM_THREADS": ""}, 2),
    "one runtime": runtimes("torch", ["libgomp-a.so.1", "libgomp.so.1", "libomptarget.so"]),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_what_would_go_wrong_is_found_once_and_says_what_to_do(name: str) -> None:
    (trouble,), todo = TROUBLES[name]
    assert todo in trouble.todo
    assert trouble.todo.endswith(".")
    assert str(trouble) == f"{trouble.problem}. {trouble.todo}"


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine_is_not_mentioned(name: str) -> None:
    assert list(FINE[name]) == []


def test_a_folder_that_can_be_written_is_fine(tmp_path: Path) -> None:
    assert list(places(tmp_path / "a" / "b", {})) == []
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_says_which_libraries_it_loads() -> None:
    assert any(name.startswith("libc") for name in doctor.examine("sklearn").loaded)


def test_this_process_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIRS2_CACHE_DIR", "/dev/null/cache")
    assert any("SCIRS2_CACHE_DIR=/dev/null/cache" in trouble.problem for trouble in deployment.troubles())
