"""scikit-learn optimizers: the very objects of `scirs2_adapters.adapters.sklearn`, at a path one can type."""

from scirs2_adapters.adapters import sklearn as _room
from scirs2_adapters.adapters.sklearn import *
from scirs2_adapters.adapters.sklearn import __all__ as __all__


def __dir__() -> list[str]:
    return dir(_room)
