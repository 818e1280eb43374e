"""Values as a checkpoint may hold them: Python's numbers, and tensors where the user works with tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..argument_names import LISTS, plain, readable
from .tensors import Tensor


def loaded(value: Any, like: Any) -> Any:
    """A saved value in the form of the one it replaces: a tensor only where that is one, a flag or a whole number where
    it is such.
    """
    if isinstance(value, Tensor) and not isinstance(like, Tensor) and readable(value):
        value = value.tolist()
    value = plain(value, like)
    if isinstance(value, tuple) and isinstance(like, tuple) and len(value) == len(like):
        return tuple(map(loaded, value, like))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(like, bool) and value in (0, 1):
            return bool(value)
        if type(like) is int and value == int(value):
            return int(value)
    return value


def loaded_group(group: Mapping[str, Any], likes: Mapping[str, Any]) -> dict[str, Any]:
    """A saved group with such values."""
    return {k: v if k in LISTS else loaded(v, likes.get(k)) for k, v in group.items()}


def saved_value(value: Any) -> Any:
    """A value as it is saved: without numpy, which `torch.load(weights_only=True)` refuses."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (tuple, list)) and any(isinstance(x, np.generic) for x in value):
        return type(value)(map(saved_value, value))
    return value
