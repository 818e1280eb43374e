"""Keras optimizers: the very objects of `scirs2_adapters.adapters.tf`, at a path one can type."""

from scirs2_adapters.adapters import tf as _room
from scirs2_adapters.adapters.tf import *
from scirs2_adapters.adapters.tf import __all__ as __all__


def __dir__() -> list[str]:
    return dir(_room)
