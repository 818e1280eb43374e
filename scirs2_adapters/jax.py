"""JAX optimizers: the very objects of `scirs2_adapters.adapters.jax`, at a path one can type."""

from scirs2_adapters.adapters import jax as _room
from scirs2_adapters.adapters.jax import *
from scirs2_adapters.adapters.jax import __all__ as __all__


def __dir__() -> list[str]:
    return dir(_room)
