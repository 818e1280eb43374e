"""Keras optimizers for every Keras backend: `from scirs2_adapters.tf import AdamW`."""

from scirs2_adapters.core.errors import require

require("tf", {"keras": ("Keras", "3.10")}, indirect={"tensorflow": ("TensorFlow", "2.18")})

from scirs2_adapters.adapters._names import keep_old_modules, unknown  # noqa: E402
from scirs2_adapters.core.registry import built_in, names, with_value  # noqa: E402

from .monitor import OptimizerMonitor as OptimizerMonitor  # noqa: E402
from .optimizer import optimizer  # noqa: E402

keep_old_modules(__name__)
# Keras' spelling and the core's, of the same class. Made now: a saved model finds its optimizer by registered name.
_classes = {spelled: c for c in map(optimizer, built_in()) for spelled in (c.__name__, c.rule_class.__name__)}
globals().update(_classes)
__all__ = sorted([*_classes, "OptimizerMonitor"])


def __getattr__(name: str) -> object:
    """An optimizer of another distribution, or one that refuses to be made here, made when it is asked for."""
    if not name.startswith("_") and name.casefold() in (*names(), *with_value()):
        cls = optimizer(name.casefold())
        if name in (cls.__name__, cls.rule_class.__name__):
            return cls
    raise unknown(__name__, name)


def __dir__() -> list[str]:
    offered = [optimizer(name) for name in names() if name not in built_in()]
    return sorted({*__all__, *(spelled for c in offered for spelled in (c.__name__, c.rule_class.__name__))})
