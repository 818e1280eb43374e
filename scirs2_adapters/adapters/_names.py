"""Which adapters there are, and the modules that pickles of version 0.1 name."""

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

#: For each adapter the modules that its pickles named in version 0.1 -> the modules that have their classes now.
OLD_MODULES: Mapping[str, Mapping[str, str]] = {
    "sklearn": {"native": "estimators", "paths": "fit", "paths.units": "units"},
    "tf": {"native": "optimizer", "native.rules": "optimizer.rules"},
}


def adapters() -> tuple[str, ...]:
    """Names of the adapters, sorted: the folders beside this file, but for private ones. None of them is imported."""
    return tuple(sorted(file.parent.name for file in Path(__file__).parent.glob("[!_]*/__init__.py")))


def keep_old_modules(package: str) -> None:
    """Let the pickles of version 0.1 load: each old name of a module finds the new module."""
    for old, new in OLD_MODULES[package.rpartition(".")[2]].items():
        sys.modules[f"{package}.{old}"] = import_module(f"{package}.{new}")
