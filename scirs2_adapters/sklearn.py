"""scikit-learn optimizers: the very objects of `scirs2_adapters.adapters.sklearn`, at a path one can type."""

from typing import TYPE_CHECKING

from scirs2_adapters.adapters import sklearn as _adapter
from scirs2_adapters.adapters.sklearn import *
from scirs2_adapters.adapters.sklearn import __all__ as __all__

# Optimizers of other distributions appear in the adapter when asked for; type checkers see the fixed names only.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        return getattr(_adapter, name)


def __dir__() -> list[str]:
    return dir(_adapter)
