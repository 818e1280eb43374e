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

__version__ = "0.1.0"
__all__ = ["__version__", "get", "names", "record"]


def __getattr__(name: str) -> object:
    """Fetch a public name on first use, and keep it."""
    homes = {"get": "registry", "names": "registry", "record": "portable.recording"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"scirs2_adapters.core.{homes[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
