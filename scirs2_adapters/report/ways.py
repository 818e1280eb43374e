"""The ways of integration: for each a program, what it needs, and what has to be there before it runs.

Another way is another entry of `PATTERNS`.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from scirs2_adapters.core.cpu.compile import compiler_obstacle
from scirs2_adapters.export import export
from scirs2_adapters.export.export import COMPILERS

from . import programs
from .service import running


@dataclass(frozen=True)
class Supplies:
    """What a program uses: a library, or a service, whose process counts with the program's own."""

    library: str = ""
    address: str = ""
    token: str = ""
    process: int | None = None


Prepare = Callable[[Path], AbstractContextManager[Supplies]]


@contextmanager
def nothing(folder: Path) -> Iterator[Supplies]:
    """The program needs no file and no other process."""
    yield Supplies()


@contextmanager
def _library(folder: Path) -> Iterator[Supplies]:
    yield Supplies(library=str(export("adamw", folder).library))


@contextmanager
def _module(folder: Path) -> Iterator[Supplies]:
    export("adamw", folder, target="wasm32")
    yield Supplies()


@contextmanager
def _service(folder: Path) -> Iterator[Supplies]:
    with running() as service:
        yield Supplies("", service.address, service.token, service.process)


@dataclass(frozen=True)
class Pattern:
    """A program; `obstacle` says in a sentence why it cannot run here and what brings it, or nothing."""

    name: str
    program: str
    obstacle: Callable[[], str] = str
    prepare: Prepare = nothing
    command: tuple[str, ...] = (sys.executable, "-c")
    suffix: str = ""
    around: tuple[str, str] = (programs.BEFORE_PYTHON, programs.AFTER_PYTHON)


def _no_kernel() -> str:
    obstacle = compiler_obstacle()
    return f"The kernel cannot be compiled here ({obstacle}), so it cannot be exported." if obstacle else ""


def _needs(extra: str, **modules: str) -> Callable[[], str]:
    """Modules with the names of their distributions."""

    def obstacle() -> str:
        missing = [name for module, name in modules.items() if not find_spec(module)]
        return f'{missing[0]} is not installed: `pip install ".[{extra}]"` brings it.' if missing else ""

    return obstacle


def _no_compiler() -> str:
    missing = "No C compiler is on PATH: a package of the system, such as gcc or clang, brings it."
    return _no_kernel() or ("" if any(map(shutil.which, COMPILERS)) else missing)


def _no_node() -> str:
    missing = "Node is not on PATH: nodejs.org, or the package nodejs of the system, brings it."
    return _no_kernel() or ("" if shutil.which("node") else missing)


_SERVING = {"fastapi": "FastAPI", "uvicorn": "uvicorn", "safetensors": "safetensors", "ml_dtypes": "ml_dtypes"}
_NODE = (programs.BEFORE_NODE, programs.AFTER_NODE)
PATTERNS = (
    Pattern("numpy, in process", programs.NUMPY),
    Pattern("PyTorch, in process", programs.TORCH, _needs("torch", torch="PyTorch")),
    Pattern("JAX, in a compiled function", programs.JAX, _needs("jax", jax="JAX", optax="optax")),
    Pattern("C interface, by ctypes", programs.CTYPES, _no_compiler, _library),
    Pattern("WebAssembly, in Node", programs.NODE, _no_node, _module, ("node",), ".mjs", _NODE),
    Pattern("REST service, on this machine", programs.SERVICE, _needs("serve", **_SERVING), _service),
)
