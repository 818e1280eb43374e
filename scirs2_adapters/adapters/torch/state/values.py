"""Values as a checkpoint may hold them: Python's numbers, and tensors where the user works with tensors."""

from __future__ import annotations

import numpy as np

from scirs2_adapters.core.argument_names import Values
from scirs2_adapters.core.fields import Value

from ..argument_names import LISTS, PLAIN, plain, readable
from .tensors import Tensor


def loaded(value: Value, like: object) -> Value:
    """A saved value in the form of the one it replaces: a tensor only where that is one, a flag or a whole number where
    it is such.
    """
    if type(value) is type(like) and type(value) in PLAIN:
        return value
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


def loaded_group(group: Values, likes: Values) -> dict[str, Value]:
    """A saved group with such values."""
    values = dict(group)
    for key, value in group.items():
        like = likes.get(key)
        if key not in LISTS and not (type(value) is type(like) and type(value) in PLAIN):
            values[key] = loaded(value, like)
    return values


def saved_value(value: Value) -> Value:
    """A value as it is saved: without numpy, which `torch.load(weights_only=True)` refuses."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (tuple, list)) and any(isinstance(x, np.generic) for x in value):
        return type(value)(map(saved_value, value))
    return value
