"""Which adapters there are, whose an optimizer is, and the modules that pickles of version 0.1 name."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

#: For each adapter the modules that its pickles named in version 0.1 -> the modules that have their classes now.
OLD_MODULES: Mapping[str, Mapping[str, str]] = {
    "sklearn": {"native": "estimators", "paths": "fit", "paths.units": "state"},
    "tf": {"native": "optimizer", "native.rules": "optimizer.rules"},
}

#: The classes of optimizers in a module, where it is loaded.
_KNOWN: dict[str, Callable[[ModuleType], tuple[type, ...]]] = {
    "torch": lambda m: (m.optim.Optimizer,),
    "keras": lambda m: (m.optimizers.Optimizer,),
    "sklearn.base": lambda m: (m.BaseEstimator,),
    "scirs2_adapters.core.numpy_optimizer": lambda m: (m.HostOptimizer,),
}


def adapters() -> tuple[str, ...]:
    """Names of the adapters, sorted: the folders beside this file, but for private ones. None of them is imported."""
    return tuple(sorted(file.parent.name for file in Path(__file__).parent.glob("[!_]*/__init__.py")))


def keep_old_modules(package: str) -> None:
    """Let the pickles of version 0.1 load: each old name of a module finds the new module."""
    for old, new in OLD_MODULES[package.rpartition(".")[2]].items():
        sys.modules[f"{package}.{old}"] = import_module(f"{package}.{new}")


def kind_of(optimizer: object) -> str | None:
    """Which framework's optimizer this is, by the name of the module that knows it; nothing is imported."""
    for name, classes in _KNOWN.items():
        module = sys.modules.get(name)
        if module is not None and isinstance(optimizer, classes(module)):
            return name
    return "jax" if "jax" in sys.modules and isinstance(optimizer, tuple) else None
