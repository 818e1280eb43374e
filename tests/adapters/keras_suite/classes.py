"""Our classes under Keras' names, and stand-ins for what Keras' tests read them from.

A class is used as it comes, `AdamW(...)`; where `match="keras"` changes its formula or its defaults it is used a second
time so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras

import scirs2_adapters
from scirs2_adapters import tf as adapter

WRAPPERS = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
#: Keras' optimizers; its wrappers stay its own.
NAMES = tuple(
    name
    for name, cls in vars(keras.optimizers).items()
    if isinstance(cls, type) and issubclass(cls, keras.Optimizer) and name not in WRAPPERS
)
#: As Keras' configs spell them.
BY_WORD = {name.casefold(): name for name in NAMES}


def matches(name: str) -> tuple[str | None, ...]:
    """How a class is used: as it comes, and as Keras' where that is another formula or has other defaults."""
    return (None, "keras") if "keras" in scirs2_adapters.get(name.casefold()).matches else (None,)


@dataclass(frozen=True)
class Ours:
    """The class of ours for one of Keras', which adds `match` to what it is given."""

    name: str
    match: str | None

    @property
    def cls(self) -> Any:
        return getattr(adapter, self.name)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self.cls(*args, match=self.match, **keywords)

    def __instancecheck__(self, made: object) -> bool:
        return isinstance(made, self.cls)

    def from_config(self, config: dict[str, Any]) -> Any:
        return self.cls.from_config({"match": self.match, **config})


def in_place_of(held: Any, match: str | None) -> Any:
    """What a test gets in place of a class of Keras' or of a module that has them; anything else as it is."""
    if isinstance(held, type) and getattr(keras.optimizers, held.__name__, None) is held and held.__name__ in NAMES:
        return Ours(held.__name__, match)
    return Module(held, match) if isinstance(held, ModuleType) and held.__name__ == "keras.src.optimizers" else held


@dataclass(frozen=True)
class Module:
    """`keras.optimizers` with our classes."""

    theirs: ModuleType
    match: str | None

    def __getattr__(self, name: str) -> Any:
        return in_place_of(getattr(self.theirs, name), self.match)

    def get(self, identifier: Any) -> Any:
        """An optimizer by the name of its class, or by that and a config."""
        named = identifier if isinstance(identifier, Mapping) else {"class_name": identifier}
        name = BY_WORD.get(named["class_name"])
        if name is None:
            return self.theirs.get(identifier)
        made = Ours(name, self.match)
        return made.from_config(dict(named["config"])) if "config" in named else made()
