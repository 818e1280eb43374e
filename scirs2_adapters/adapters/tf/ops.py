"""The array operations bound to `keras.ops`, one binding for TensorFlow, JAX and torch, and the scalar mathematics of a
trace.

Numbers stay Python floats until they meet a tensor, and then take its dtype: what depends on no traced value is
computed in float64. Left to itself Keras gives them its float32, and on torch narrows float64 tensors to that as well.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias

import keras
import numpy as np
from keras import ops

from scirs2_adapters.core.fields import is_number
from scirs2_adapters.core.format_ops import IntegerOps
from scirs2_adapters.core.ops import HOST_SCALARS, Ops
from scirs2_adapters.core.random_numbers import normal, uniform

#: A tensor of whichever backend runs, or what Keras converts to one: they have no common type.
Tensor: TypeAlias = Any


def number(value: Tensor, dtype: str) -> Tensor:
    """A scalar in this dtype; a plain number goes there straight from float64."""
    return ops.convert_to_tensor(value, dtype=dtype) if is_number(value) else ops.cast(value, dtype)


def as_numpy(x: Tensor) -> np.ndarray:
    """A copy of the numbers of a tensor or a variable. `keras.ops.convert_to_numpy` asks those of TensorFlow and torch
    in a way that numpy 2 warns of.
    """
    value = x.value if isinstance(x, keras.Variable) else x
    if hasattr(value, "detach"):
        narrow = value.detach().cpu()
        wide = narrow.float() if keras.backend.standardize_dtype(narrow.dtype) == "bfloat16" else narrow
        return wide.numpy().astype(keras.backend.standardize_dtype(narrow.dtype))
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def detached(x: Tensor) -> Tensor:
    """A tensor without its history. On JAX as it is: a step is a function there, and may be differentiated."""
    return x if keras.backend.backend() == "jax" else ops.stop_gradient(x)


def _alike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both as tensors of the dtype of the one that is a tensor."""
    dtype = next((keras.backend.standardize_dtype(x.dtype) for x in (a, b) if not is_number(x)), keras.config.floatx())
    return number(a, dtype), number(b, dtype)


def _extreme(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    def function(a: Tensor, b: Tensor) -> Tensor:
        a, b = _alike(a, b)
        method = getattr(a, name, None)  # torch tensors have the function as a method, without Keras' narrowing
        return method(b) if method else getattr(ops, name)(a, b)

    return function


def _sign_of_numbers(x: Tensor) -> Tensor:
    """The sign, and NaN for NaN, where torch returns 0."""
    return ops.where(ops.equal(x, x), ops.sign(x), x)


def _cond(number: Tensor, f: Callable[[], Tensor], g: Callable[[], Tensor]) -> Tensor:
    if is_number(number):
        return f() if number else g()
    return ops.cond(ops.not_equal(number, 0), f, g)


def _count(x: Tensor, axis: int | None) -> int:
    return max(1, math.prod(x.shape) if axis is None else x.shape[axis])


def _addmm(x: Tensor | None, a: Tensor, b: Tensor, beta: Tensor, alpha: Tensor) -> Tensor:
    product = a @ b
    stored = keras.backend.standardize_dtype(product.dtype)
    dtype = "float32" if stored == "bfloat16" else stored  # numbers are not rounded to 16 bits
    scaled = number(alpha, dtype) * ops.cast(product, dtype)
    return ops.cast(scaled if x is None else number(beta, dtype) * ops.cast(x, dtype) + scaled, stored)


#: The operations of a hash.
INTEGERS: IntegerOps = SimpleNamespace(
    integer=lambda x: ops.convert_to_tensor(x, "int32"),
    int32=lambda x: ops.cast(x, "int32"),
    float32=lambda x: ops.cast(x, "float32"),
    wrap=lambda x: ops.cast(x, "int32"),
    shift_right=lambda x, n: ops.right_shift(x, n),
    both=lambda x, y: ops.bitwise_and(x, y),
    xor=lambda x, y: ops.bitwise_xor(x, y),
    indices=lambda x, n: ops.arange(n, dtype="int32"),
)
OPS = Ops(
    sqrt=ops.sqrt,
    abs=ops.absolute,
    sign=_sign_of_numbers if keras.backend.backend() == "torch" else ops.sign,
    maximum=_extreme("maximum"),
    minimum=_extreme("minimum"),
    where=lambda condition, a, b: ops.where(condition, *_alike(a, b)),
    sum=lambda x, axis: ops.sum(x, axis=axis, keepdims=axis is not None),
    mean=lambda x, axis: ops.sum(x, axis=axis, keepdims=axis is not None) / _count(x, axis),
    matmul=operator.matmul,
    addmm=_addmm,
    syrk=lambda a, x, beta, alpha: _addmm(x, a, ops.swapaxes(a, -1, -2), beta, alpha),
    trmm=lambda x, a, b, alpha: _addmm(x, a, b, 1.0, alpha),
    bfloat16=lambda x: ops.cast(x, "bfloat16"),
    like=lambda x, y: ops.cast(x, y.dtype),
    transpose=lambda x: ops.swapaxes(x, -1, -2),
    reshape=ops.reshape,
    permute=ops.transpose,
    eigenvectors=lambda x: ops.linalg.eigh(x)[1],
    orthonormal=lambda x, mode="complete": ops.linalg.qr(x, mode=mode)[0],
    order=lambda x: ops.argsort(-x),
    take=lambda x, indices, axis: ops.take(x, indices, axis=axis),
    concatenate=ops.concatenate,
    max=ops.max,
    triu=ops.triu,
    solve_triangular=lambda a, b: ops.linalg.solve_triangular(a, b, lower=True),
    cond=_cond,
    random=partial(uniform, INTEGERS),
    normal=partial(normal, INTEGERS),
)


def scalars(dtype: str) -> SimpleNamespace:
    """The `xp` of `coefficients` for arithmetic in this dtype."""

    def bind(name: str) -> Callable[..., Tensor]:
        host, traced = getattr(HOST_SCALARS, name), getattr(OPS, name, None) or getattr(ops, name)

        def function(*values: Tensor) -> Tensor:
            return host(*values) if all(map(is_number, values)) else traced(*(number(v, dtype) for v in values))

        return function

    def where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
        if isinstance(condition, bool):
            return a if condition else b
        if is_number(a) and is_number(b) and a == b:
            return a
        return ops.where(condition, number(a, dtype), number(b, dtype))

    names = [name for name in vars(HOST_SCALARS) if name != "where"]
    return SimpleNamespace(where=where, **{name: bind(name) for name in names})
