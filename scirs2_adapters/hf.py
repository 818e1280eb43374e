"""Hugging Face optimizers: the very objects of `scirs2_adapters.adapters.hf`, at a path one can type."""

from scirs2_adapters.adapters import hf as _room
from scirs2_adapters.adapters.hf import *
from scirs2_adapters.adapters.hf import __all__ as __all__


def __dir__() -> list[str]:
    return dir(_room)
