"""PyTorch optimizers: the very objects of `scirs2_adapters.adapters.torch`, at a path one can type."""

from scirs2_adapters.adapters import torch as _room
from scirs2_adapters.adapters.torch import *
from scirs2_adapters.adapters.torch import __all__ as __all__


def __dir__() -> list[str]:
    return dir(_room)
