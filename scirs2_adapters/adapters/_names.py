"""Which adapters there are, what they say of a name that they lack, and modules that pickles of version 0.1 name."""

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


def unknown(package: str, name: str) -> AttributeError:
    """The error of an adapter that has nothing of this name, with the module's name as users type it."""
    return AttributeError(f"module {package.replace('.adapters.', '.')!r} has no attribute {name!r}")


def keep_old_modules(package: str) -> None:
    """Let the pickles of version 0.1 load: each old name of a module finds the new module."""
    for old, new in OLD_MODULES[package.rpartition(".")[2]].items():
        sys.modules[f"{package}.{old}"] = import_module(f"{package}.{new}")
