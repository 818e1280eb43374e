"""One optimizer, five frameworks: `names()` lists the optimizers, `get(name)` gives the rule behind one, and
`record(optimizer, path)` writes down what an optimizer does.

The adapters are `scirs2_adapters.torch`, `.tf`, `.jax`, `.hf` and `.sklearn`; for plain numpy, `scirs2_adapters.core`.
Nothing is imported before it is asked for: a program that uses one framework never pays for another, nor for numba.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scirs2_adapters.core.portable.recording import record
    from scirs2_adapters.core.registry import get, names
    from scirs2_adapters.monitoring import monitor

__version__ = "0.1.0"
__all__ = ["__version__", "get", "monitor", "names", "record"]
_MODULES = {
    "get": "core.registry",
    "names": "core.registry",
    "record": "core.portable.recording",
    "monitor": "monitoring",
}


def __getattr__(name: str) -> object:
    """Fetch what is public on first use, and keep it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"scirs2_adapters.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
