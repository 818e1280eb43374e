"""adapters/X -> core -> numpy, read from the import statements: numba in core/cpu only, adapters apart."""

import sys
from pathlib import Path

import pytest

from tests.boundaries.support import ADAPTERS, PACKAGE, ROOT, frameworks, imports, python_files, relative

XLA = {"scirs2_adapters.adapters._xla": "the step in a program of JAX, for optax and for Keras on JAX"}
NAMES = {"scirs2_adapters.adapters._names": "what is said of an unknown name, and modules that old pickles name"}

#: What an adapter may import besides core, itself and the frameworks it requires: import prefix -> reason.
ALSO = {
    "hf": {
        "scirs2_adapters.adapters.torch": "the Trainer trains torch modules, so its optimizers are the torch adapter's"
    },
    "jax": XLA | NAMES,
    "sklearn": NAMES | dict.fromkeys(("scipy.sparse", "scipy.special"), "scikit-learn requires it"),
    "tf": NAMES
    | XLA
    | dict.fromkeys(("torch", "jax"), "one of Keras' backends; it is imported where it is the one that runs")
    | {"h5py": "Keras requires it, and writes its files with it"},
    "torch": NAMES
    | {"triton": "torch's CUDA builds bring it; it is imported when a kernel for a CUDA device is first built"},
}


def outside(file: Path, allowed: set[str]) -> list[str]:
    """Imports of a file that are neither the standard library's nor begin with an allowed name."""
    return [
        f"{relative(file)}:{line} imports {name}"
        for line, name in imports(file)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)
    ]


def test_the_core_imports_numpy_and_itself() -> None:
    files = [f for f in python_files(PACKAGE / "core") if "cpu" not in f.relative_to(PACKAGE / "core").parts]
    assert [line for file in files for line in outside(file, {"numpy", "scirs2_adapters.core"})] == []


def test_numba_stays_in_cpu() -> None:
    allowed = {"numpy", "numba", "llvmlite", "scirs2_adapters.core"}
    assert [line for file in python_files(PACKAGE / "core/cpu") for line in outside(file, allowed)] == []


def test_an_optimizer_imports_the_core_only() -> None:
    files = python_files(PACKAGE / "core/optimizers")
    assert [line for file in files for line in outside(file, {"scirs2_adapters.core"})] == []


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_imports_the_core_and_its_own_framework(adapter: str) -> None:
    allowed = {
        "numpy",
        "scirs2_adapters.core",
        f"scirs2_adapters.adapters.{adapter}",
        *frameworks(adapter),
        *ALSO.get(adapter, {}),
    }
    files = python_files(PACKAGE / "adapters" / adapter)
    assert [line for file in files for line in outside(file, allowed)] == []


def test_the_step_in_a_program_of_jax_needs_no_other_library() -> None:
    allowed = {"numpy", "jax", "scirs2_adapters.core", "scirs2_adapters.adapters._xla"}
    assert [line for file in python_files(PACKAGE / "adapters/_xla") for line in outside(file, allowed)] == []


@pytest.mark.parametrize(
    ("adapter", "prefix"), [(adapter, prefix) for adapter, extra in ALSO.items() for prefix in extra]
)
def test_every_exception_is_still_needed(adapter: str, prefix: str) -> None:
    names = [name for file in python_files(PACKAGE / "adapters" / adapter) for _, name in imports(file)]
    assert any(f"{name}.".startswith(f"{prefix}.") for name in names), f"ALSO[{adapter!r}] can go"


def test_the_listing_of_adapters_imports_nothing() -> None:
    files = [PACKAGE / "adapters/__init__.py", PACKAGE / "adapters/_names.py"]
    assert [line for file in files for line in outside(file, {"scirs2_adapters.adapters._names"})] == []


def test_the_core_names_no_framework() -> None:
    """A new framework teaches the core nothing: foreign arrays are recognised through `sys.modules` in adapters."""
    hosts = {name for adapter in ADAPTERS for name in frameworks(adapter)}
    imported = [(relative(file), name) for file in python_files(PACKAGE / "core") for _, name in imports(file)]
    assert [row for row in imported if row[1].split(".")[0] in hosts] == []


def test_reference_transcriptions_import_nothing_of_ours() -> None:
    files = python_files(ROOT / "tests/reference")
    names = [(relative(file), name) for file in files for _, name in imports(file) if not file.name.startswith("test_")]
    assert files
    assert [row for row in names if row[1].startswith("scirs2_adapters")] == []
