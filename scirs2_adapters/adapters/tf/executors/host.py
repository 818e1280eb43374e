"""The CPU kernel behind each backend: a module for each, with what keeps it from running and how it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

import keras

from ..ops import Tensor
from ..state import RuleState
from ..state.keras_types import KerasVariable
from .traced import Update


class HostPath(Protocol):
    """What the module of a backend has."""

    def unavailable(self) -> str | None:
        """Why no step of this process can be taken by the kernel, or None."""

    def obstacles(self, optimizer: RuleState, updates: Sequence[Update]) -> list[str | None]:
        """For each variable why the kernel cannot step it in the step that is being taken or compiled, or None."""

    def step(
        self, optimizer: RuleState, updates: Sequence[Update], learning_rate: Tensor, model: Mapping[str, KerasVariable]
    ) -> None:
        """Step these variables together, of any programs; `model` are the numbers of the whole model."""


#: The backends that have one.
BACKENDS: tuple[str, ...] = ("tensorflow", "torch", "jax")


def host_path() -> HostPath | None:
    """That of the backend that runs."""
    backend = keras.backend.backend()
    if backend not in BACKENDS:
        return None
    name = f"{__package__}.{backend}_host"  # looked up first: torch's compiler cannot follow an import
    return cast(HostPath, sys.modules.get(name) or importlib.import_module(name))


def unavailable() -> str | None:
    """Why the kernel can step nothing in this process, or None."""
    path = host_path()
    return "on this backend Keras optimizers run the framework's operations" if path is None else path.unavailable()
