"""The waist bound to `keras.ops`, one binding for TensorFlow, JAX and torch, and the scalar mathematics of a trace.

Numbers stay Python floats until they meet a tensor: what depends on no traced value is computed in float64, and a
Python float takes the dtype of the tensor it meets, which no 0-d tensor does on TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from keras import ops

from scirs2_adapters.core.fields import is_number
from scirs2_adapters.core.waist import HOST_SCALARS, Waist

WAIST = Waist(
    sqrt=ops.sqrt,
    abs=ops.absolute,
    sign=lambda x: ops.where(ops.equal(x, x), ops.sign(x), x),  # torch gives 0 for NaN
    maximum=ops.maximum,
    minimum=ops.minimum,
    where=ops.where,
    sum=lambda x, axis: ops.sum(x, axis=axis, keepdims=axis is not None),
    mean=lambda x, axis: ops.sum(x, axis=axis, keepdims=axis is not None) / max(1, _count(x, axis)),
    matmul=ops.matmul,
    transpose=lambda x: ops.swapaxes(x, -1, -2),
)


def _count(x: Any, axis: int | None) -> int:
    return math.prod(x.shape) if axis is None else x.shape[axis]


def number(value: Any, dtype: str) -> Any:
    """A scalar in this dtype; a plain number goes there straight from float64."""
    return ops.convert_to_tensor(value, dtype=dtype) if is_number(value) else ops.cast(value, dtype)


def scalars(dtype: str) -> SimpleNamespace:
    """The `xp` of `coefficients` for arithmetic in this dtype."""

    def bind(name: str) -> Callable[..., Any]:
        host, traced = getattr(HOST_SCALARS, name), getattr(ops, name)

        def function(*values: Any) -> Any:
            return host(*values) if all(map(is_number, values)) else traced(*(number(v, dtype) for v in values))

        return function

    def where(condition: Any, a: Any, b: Any) -> Any:
        if isinstance(condition, bool):
            return a if condition else b
        return ops.where(condition, number(a, dtype), number(b, dtype))

    names = [name for name in vars(HOST_SCALARS) if name != "where"]
    return SimpleNamespace(where=where, **{name: bind(name) for name in names})
