"""PyTorch optimizers: `from scirs2_adapters.torch import AdamW`."""

from scirs2_adapters.core.errors import require

require("torch", {"torch": ("PyTorch", "2.6")})

from scirs2_adapters.adapters._names import unknown  # noqa: E402
from scirs2_adapters.core.registry import built_in, get, names, with_closure, with_value  # noqa: E402

from .grouping import LayerDecay, param_groups  # noqa: E402
from .optimizer import optimizer  # noqa: E402

_OTHERS = (*with_closure(), *with_value())
__all__ = [*sorted(get(name).__name__ for name in (*built_in(), *_OTHERS)), "LayerDecay", "param_groups"]


def __getattr__(name: str) -> object:
    """The class of a rule, made when it is first asked for; those of other distributions too."""
    if not name.startswith("_") and name.casefold() in (*names(), *_OTHERS) and get(name).__name__ == name:
        return optimizer(name.casefold())
    raise unknown(__name__, name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(get(name).__name__ for name in names())})
