"""What the adapter reads of Keras' variables, optimizers and stores, whose classes have no types."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias

import numpy as np

from ..ops import Tensor

#: A TensorFlow strategy, or the context of one of its replicas.
Strategy: TypeAlias = Any


class KerasVariable(Protocol):
    """A variable of Keras, or of TensorFlow below Keras."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    value: Tensor

    def assign(self, value: Tensor) -> Tensor: ...
    def numpy(self) -> np.ndarray: ...
    def __add__(self, other: Tensor) -> Tensor: ...


class KerasOptimizer(Protocol):
    """An optimizer, of Keras' classes or of ours."""

    name: str
    built: bool
    iterations: KerasVariable
    weight_decay: float | None
    clipnorm: float | None
    global_clipnorm: float | None
    loss_scale_factor: float | None
    gradient_accumulation_steps: int | None
    _iterations: KerasVariable
    _learning_rate: Tensor
    _trainable_variables: list[KerasVariable]
    _accumulated_gradients: list[KerasVariable]
    _distribution_strategy: Strategy

    @property
    def variables(self) -> list[KerasVariable]: ...
    def add_variable(self, *arguments: object, **options: object) -> KerasVariable: ...
    def assign(self, variable: KerasVariable, value: Tensor) -> None: ...
    def assign_sub(self, variable: KerasVariable, value: Tensor) -> None: ...
    def _get_variable_index(self, variable: KerasVariable) -> int: ...
    def _use_weight_decay(self, variable: KerasVariable) -> bool: ...
    def _all_reduce_sum_gradients(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]: ...


class Store(Protocol):
    """Where variables are saved: a dict, or one of Keras' stores, which are no mappings."""

    def keys(self) -> Iterable[str]: ...
    def __contains__(self, name: object) -> bool: ...
    def __getitem__(self, name: str) -> np.ndarray: ...
    def __setitem__(self, name: str, value: np.ndarray) -> None: ...


def path_of(variable: KerasVariable) -> str:
    """The name of a model variable: its path where it has one."""
    return str(getattr(variable, "path", None) or getattr(variable, "name", ""))
