"""scikit-learn estimators that train with any optimizer, and the optimizers: the core's own classes."""

from scirs2_adapters.core.errors import require

require("sklearn", {"sklearn": ("scikit-learn", "1.6")})

from scirs2_adapters.adapters._names import keep_old_modules, unknown  # noqa: E402
from scirs2_adapters.core.registry import built_in, get, names, with_value  # noqa: E402

from .averages import Averages as Averages  # noqa: E402  # named by the pickles of fitted estimators, as are two below
from .estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor, with_optimizer  # noqa: E402
from .state import Stepper as Stepper  # noqa: E402
from .units import Units as Units  # noqa: E402

keep_old_modules(__name__)
_rules = {get(name).__name__: get(name) for name in (*built_in(), *with_value())}
globals().update(_rules)
__all__ = ["MLPClassifier", "MLPRegressor", "LinearClassifier", "LinearRegressor", "with_optimizer", *sorted(_rules)]


def __getattr__(name: str) -> object:
    """An optimizer of another distribution, loaded when it is asked for."""
    if not name.startswith("_") and name.casefold() in names() and get(name).__name__ == name:
        return get(name)
    raise unknown(__name__, name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(get(name).__name__ for name in names())})
