"""Examines an installation: what is installed, which paths run, and why others do not.

Each adapter is imported and takes a step in a separate process, because a framework that crashes while loading must not
hide the others.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from scirs2_adapters import __version__
from scirs2_adapters.core.cpu import compile as compiler
from scirs2_adapters.core.cpu.engine import default_threads

from . import deployment

#: Distributions worth knowing in a bug report; several may bring one framework.
DISTRIBUTIONS = (
    "numpy", "numba", "llvmlite", "torch", "keras", "tensorflow", "tensorflow-cpu", "jax", "jaxlib", "optax",
    "transformers", "accelerate", "scikit-learn",
)  # fmt: skip
_LIMIT = 180


@dataclass(frozen=True)
class Adapter:
    """What became of one adapter: why it is missing, and why a path does not run; None where all is well."""

    name: str
    missing: str | None
    host: str | None = None
    traced: str | None = None
    loaded: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether an optimizer steps here, on whichever path."""
        return self.missing is None and None in (self.host, self.traced)


def versions() -> dict[str, str]:
    """Name -> version of everything here that matters."""
    result = {"scirs2": __version__, "python": f"{platform.python_version()} on {platform.platform()}"}
    for name in DISTRIBUTIONS:
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            continue
    return result


def kernel() -> dict[str, str]:
    """The host kernel: whether it can be compiled here, with how many threads, and where it is kept."""
    reason = compiler.compiler_obstacle()
    return {
        "host kernel": "available" if reason is None else f"not available: {reason}",
        "threads": f"{default_threads()} granted, started for each step (no pool); in PyTorch those of PyTorch",
        "cache directory": f"{compiler.cache_directory()} ({_writable(compiler.cache_directory())})",
    }


def _writable(directory: Path) -> str:
    """Whether files can be made there. It is tried, because permission bits say nothing of a read-only mount."""
    if problem := deployment.unwritable(directory):
        return f"not writable, kernels are compiled at each start; set SCIRS2_CACHE_DIR: {problem}"
    objects = len(list(directory.glob("*.o"))) if directory.is_dir() else 0
    return f"writable, {objects} kernels kept"


def examine(name: str) -> Adapter:
    """Step once in this adapter, in a fresh process."""
    command = [sys.executable, "-m", "scirs2_adapters.demo.probe", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return Adapter(name, f"did not finish within {_LIMIT} seconds")
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [""]
        return Adapter(name, f"its process ended with {done.returncode}: {last[0]}")
    answer = json.loads(done.stdout)
    return Adapter(name, **{**answer, "loaded": tuple(answer.get("loaded", ()))})
