"""optax transformations made from rules, and `step`: `from scirs2_adapters.jax import adamw, step`."""

from scirs2_adapters.core.errors import require

require("jax", {"jax": ("JAX", "0.5.3"), "optax": ("optax", "0.2.7")})

from optax.contrib import sam  # noqa: E402  # optax's own, which wraps our transformations as it does all others

from scirs2_adapters.adapters._names import unknown  # noqa: E402
from scirs2_adapters.core.registry import names, plain, with_value  # noqa: E402

from .argument_names import factory_name  # noqa: E402
from .transform.evaluation import evaluation_params  # noqa: E402
from .transform.factory import explain, factory, memory, step  # noqa: E402

__all__ = [*map(factory_name, (*names(), *with_value())), "evaluation_params", "explain", "memory", "sam", "step"]


def __getattr__(name: str) -> object:
    """The factory of an optimizer, made when it is asked for."""
    if name.islower() and not name.startswith("_") and plain(name) in (*names(), *with_value()):
        return factory(plain(name))
    raise unknown(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *map(factory_name, names())})
