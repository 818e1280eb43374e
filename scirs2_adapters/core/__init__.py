"""The core for people who use plain numpy: rules by name, and `HostOptimizer` that steps arrays in place."""

from __future__ import annotations

from typing import Any

from . import schedules
from .memory import Memory
from .registry import get, names, with_closure, with_value
from .rule import Rule
from .wrapper import Wrapper

__all__ = [
    "ClosureOptimizer",
    "HostOptimizer",
    "Memory",
    "Rule",
    "Wrapper",
    "evaluation_params",
    "get",
    "names",
    "schedules",
    "with_closure",
    "with_value",
]


def __getattr__(name: str) -> Any:
    if name == "HostOptimizer":
        from .numpy_optimizer import HostOptimizer

        return HostOptimizer
    if name == "evaluation_params":
        from .numpy_evaluation import evaluation_params

        return evaluation_params
    if name == "ClosureOptimizer":
        from .closures._host import ClosureOptimizer

        return ClosureOptimizer
    if name[:1].isupper() and name.lower() in (*with_closure(), *with_value(), *names()) and get(name).__name__ == name:
        return get(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(get(n).__name__ for n in (*with_closure(), *with_value(), *names()))})
